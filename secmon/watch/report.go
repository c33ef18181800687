package watch

import (
	"bytes"

	"warder/secmon/event"
)

// Report takes an event of another channel than the traps, before the act takes place
// that it reports, and says whether a rule wants the act stopped. The event's VM need
// not be one that is watched. It may be called from several goroutines at once.
func (w *Watch) Report(e event.Event) (block bool) {
	w.mu.Lock()
	m := w.machines[e.VM]
	w.mu.Unlock()
	if m != nil {
		e.Seq = m.seq.Add(1)
		m.openers.name(&e)
	}
	w.strings.Share(&e)
	verdict, alerts := w.engine.Observe(&e)
	if len(e.Call.Payload) > maxQueued {
		e.Call.Payload = bytes.Clone(e.Call.Payload[:maxQueued])
	}
	w.Events.Put(e)
	var paused *pausing
	if verdict.Pause && m != nil && m.traps.Load() != nil {
		paused = w.pausing(m)
	}
	for _, a := range alerts {
		w.raise(a, paused)
	}
	return verdict.Errno != 0
}

// Message is how many bytes the rules look at of what a message between VMs holds.
func (w *Watch) Message() int { return w.wanted().message }

// Shared is how many bytes the rules look at of what is written to a share, and of a file
// that is read there; 0 when they look at neither.
func (w *Watch) Shared() int { return w.wanted().share }
