package act

import (
	"context"
	"fmt"
	"time"

	"warder/secmon/event"
	"warder/vmm"
)

// A halt costs the host microseconds and leaves no trace but in KVM's counters. A
// guest that works hard halts some ten thousand times a second, on all of its vCPUs.
const (
	stormLook = time.Second
	stormRate = 100_000 // halts a second
)

// storm tells when a guest's halts come to be a storm, and once in a while as long as it lasts.
type storm struct {
	rate  float64 // halts a second that are one
	halts uint64
	at    time.Time
}

// look takes the number of halts until now, and gives how many a second there were
// since it was called last if that is a storm.
func (s *storm) look(halts uint64, now time.Time) (perSecond float64, is bool) {
	seconds, more := now.Sub(s.at).Seconds(), halts-s.halts
	first := s.at.IsZero()
	s.halts, s.at = halts, now
	if first || seconds <= 0 {
		return 0, false
	}
	perSecond = float64(more) / seconds
	return perSecond, perSecond >= s.rate
}

// storms looks at a machine until it ends, for so many halts a second. Where KVM does
// not count there is nothing to tell.
func (w *Watcher) storms(ctx context.Context, m *vmm.Machine, rate float64) {
	tick := time.NewTicker(stormLook)
	defer tick.Stop()
	s := storm{rate: rate}
	for {
		halts, err := m.Halts()
		if err != nil {
			return
		}
		if rate, is := s.look(halts, time.Now()); is {
			w.storming(rate)
		}
		select {
		case <-ctx.Done():
			return
		case <-m.Done():
			return
		case <-tick.C:
		}
	}
}

// storming reports a storm.
func (w *Watcher) storming(rate float64) {
	count, ok := w.allow(HaltStorm)
	if !ok {
		return
	}
	w.cfg.Sink(event.Event{
		Kind: event.Privileged, VM: w.cfg.VM, Action: HaltStorm, Time: w.now().UnixNano(), Seq: w.seq.Add(1),
		Message: fmt.Sprintf("the guest halts its vCPUs %.0f times a second", rate),
		Access:  &event.Access{Count: count},
	})
}
