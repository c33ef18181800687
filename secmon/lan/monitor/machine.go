package monitor

import (
	"fmt"
	"sync"

	"warder/secmon/event"
	"warder/secmon/lan/anomaly"
	"warder/secmon/lan/stream"
)

// How many events a VM may cause. What it causes beyond is counted.
const (
	eventsPerSecond = 500
	eventsAtOnce    = 2000
)

// machine is a VM on the network.
type machine struct {
	name string
	*anomaly.Machine
	memory *stream.Memory // of what it says and nobody has read

	mu   sync.Mutex
	left float64 // events that it may cause now
	at   int64
	held uint64 // since the last report
}

func (m *Monitor) machine(vm string) *machine {
	m.mu.Lock()
	defer m.mu.Unlock()
	x := m.machines[vm]
	if x == nil {
		x = &machine{name: vm, Machine: anomaly.NewMachine(), memory: stream.NewMemory(unreadOfOne, m.memory), left: eventsAtOnce}
		m.machines[vm] = x
	}
	return x
}

func (m *Monitor) all() (list []*machine) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, x := range m.machines {
		list = append(list, x)
	}
	return list
}

// mayTell takes one event off what the VM may cause.
func (x *machine) mayTell(now int64) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.at != 0 {
		x.left = min(eventsAtOnce, x.left+eventsPerSecond*float64(max(now-x.at, 0))/1e9)
	}
	x.at = max(x.at, now)
	if x.left < 1 {
		x.held++
		return false
	}
	x.left--
	return true
}

// tellDue tells what was held back.
func (x *machine) tellDue(m *Monitor, now int64) {
	x.Due(now, func(h anomaly.Held, count int) { m.cfg.Sink(x.again(now, h, count)) })
	x.mu.Lock()
	held := x.held
	x.held = 0
	x.mu.Unlock()
	if held > 0 {
		m.cfg.Sink(event.Event{
			Time: now, Kind: event.Loss, VM: x.name, Action: "network", Lost: held,
			Message: fmt.Sprintf("%d events of its traffic are not told: it caused more than %d a second", held, eventsPerSecond),
		})
	}
}

// again is the event of something that a VM goes on doing.
func (x *machine) again(now int64, h anomaly.Held, count int) event.Event {
	return event.Event{
		Time: now, Kind: event.Anomaly, VM: x.name, Action: h.Action, Message: fmt.Sprintf("%s, %d more times", h.What, count),
		Net: &event.Net{SourceVM: x.name},
	}
}

// does is the event of something that a VM does again and again, if it is to be told
// now. What says what it is, apart from other things of that action.
func (x *machine) does(events []event.Event, now int64, action, what string, n *event.Net) []event.Event {
	count, tell := x.Does(now, anomaly.Held{Action: action, What: what})
	if !tell {
		return events
	}
	if count > 1 {
		what = fmt.Sprintf("%s, %d times", what, count)
	}
	return append(events, event.Event{Time: now, Kind: event.Anomaly, VM: x.name, Action: action, Message: what, Net: n})
}

// found appends the events of findings.
func (x *machine) found(events []event.Event, now int64, n *event.Net, found []anomaly.Finding) []event.Event {
	for _, f := range found {
		events = append(events, event.Event{Time: now, Kind: event.Anomaly, VM: x.name, Action: f.Action, Message: f.Message, Net: n})
	}
	return events
}
