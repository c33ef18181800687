package watch

import (
	"context"
	"fmt"
	"time"

	"warder/secmon/event"
	"warder/secmon/pattern"
)

// evictionsEvery is how often what the engine pushed out is told.
const evictionsEvery = time.Second

// tellEvictions makes an event of what the engine pushed out to stay within its
// memory, or took in too late: each could hide a match.
func (w *Watch) tellEvictions(ctx context.Context) {
	var before pattern.Stats
	tick := time.NewTicker(evictionsEvery)
	defer tick.Stop()
	for {
		now := w.engine.Stats()
		if e, any := evicted(before, now); any {
			w.Events.Put(e)
		}
		before = now
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// evicted is the event of what was pushed out between two counts.
func evicted(before, now pattern.Stats) (e event.Event, any bool) {
	parts := now.Splice.EvictedParts - before.Splice.EvictedParts
	groups := now.Correlate.Evicted - before.Correlate.Evicted
	matches := now.Correlate.Dropped - before.Correlate.Dropped
	late := now.Correlate.Late - before.Correlate.Late
	if parts+groups+matches+late == 0 {
		return e, false
	}
	return event.Event{
		Time: time.Now().UnixNano(), Kind: event.Loss, Action: "eviction", Lost: parts + groups + matches,
		Message: fmt.Sprintf("the rules' memory was full: %d parts of splices, %d groups and %d matches of correlations were pushed out, and %d matches came too late to be in order; an attack could be hidden by that", parts, groups, matches, late),
	}, true
}
