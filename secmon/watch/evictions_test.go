package watch

import (
	"strings"
	"testing"

	"warder/secmon/event"
	"warder/secmon/pattern"
)

// What is pushed out is told once, in an event.
func TestEvicted(t *testing.T) {
	var before, now pattern.Stats
	if e, any := evicted(before, now); any {
		t.Errorf("nothing was pushed out, and told: %+v", e)
	}
	now.Splice.EvictedParts, now.Correlate.Evicted, now.Correlate.Dropped, now.Correlate.Late = 1, 2, 4, 8
	e, any := evicted(before, now)
	if !any || e.Kind != event.Loss || e.Lost != 7 || !strings.Contains(e.Message, "1 parts of splices, 2 groups and 4 matches") || !strings.Contains(e.Message, "8 matches came too late") {
		t.Errorf("%+v", e)
	}
	if _, any := evicted(now, now); any {
		t.Error("told twice")
	}
}
