package watch

import (
	"bytes"
	"net/netip"
	"time"

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

// flowed takes what a process of a machine has done with a flow. What is blocked by it is
// cut: the call has returned.
func (w *Watch) flowed(m *machine, e event.Event) {
	n := *e.Net // which others may have
	m.complete(&n)
	e.Net = &n
	if w.Report(e) && w.Cut != nil {
		w.Cut(e.Net.Flow)
	}
}

// complete gives a flow the address that the machine has on the LAN, where a socket of its
// has any.
func (m *machine) complete(n *event.Net) {
	own, other := &n.Source, n.Destination
	if !n.Initiated {
		own, other = &n.Destination, n.Source
	}
	if !own.Addr().IsUnspecified() || m.target.Port == nil {
		return
	}
	for _, a := range m.target.Port.Config().Addresses {
		if a.Is4() == other.Addr().Is4() && !a.IsLinkLocalUnicast() {
			*own = netip.AddrPortFrom(a, own.Port())
			n.Flow = event.FlowID(n.Transport, n.Source, n.Destination)
			return
		}
	}
}

// notice tells what is to be known of the hooks of a machine.
func (w *Watch) notice(m *machine, message string) {
	w.Events.Put(event.Event{Time: time.Now().UnixNano(), Kind: event.Lifecycle, VM: m.target.Name, Message: message})
}

// Message is how many bytes the rules look at of what a message between VMs holds.
func (w *Watch) Message() int { return w.wanted().message }

// Shared is how many bytes the rules look at of what is written to a share, and of a file
// that is read there; 0 when they look at neither.
func (w *Watch) Shared() int { return w.wanted().share }
