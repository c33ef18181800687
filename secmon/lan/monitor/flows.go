package monitor

import (
	"net/netip"
	"time"

	"warder/secmon/event"
	"warder/secmon/lan"
)

// Flow is a flow as it is at one moment. Index 0 is of its source, which opened it,
// index 1 of its destination.
type Flow struct {
	ID          uint64         `json:"id"` // as in events
	VLAN        uint16         `json:"vlan"`
	Transport   string         `json:"transport"`
	Application string         `json:"application,omitempty"`
	State       string         `json:"state"`
	Source      netip.AddrPort `json:"source,omitzero"`
	Destination netip.AddrPort `json:"destination,omitzero"`
	// Vsock are the ends of a flow of vsock, which has no others.
	Vsock         *[2]event.VsockEnd `json:"vsock,omitempty"`
	SourceVM      string             `json:"source_vm,omitempty"`
	DestinationVM string             `json:"destination_vm,omitempty"`
	Begun         time.Time          `json:"begun"`
	Last          time.Time          `json:"last"`
	Bytes         [2]uint64          `json:"bytes"`
	Packets       [2]uint64          `json:"packets"`
}

// Flows are those that are known now, in no order.
func (m *Monitor) Flows() []Flow {
	var list []Flow
	offset := m.offset.Load()
	add := func(f *lan.Flow) bool {
		if of(f) == nil {
			return true
		}
		n := netOf(f)
		x := Flow{
			ID: n.Flow, VLAN: n.VLAN, Transport: n.Transport, Application: n.Application, State: f.State.String(),
			Source: n.Source, Destination: n.Destination, SourceVM: n.SourceVM, DestinationVM: n.DestinationVM,
			Begun: time.Unix(0, f.Begun+offset), Last: time.Unix(0, f.Last+offset), Bytes: f.Bytes, Packets: f.Packets,
		}
		if n.Transport == event.Vsock {
			x.Vsock = &n.Vsock
		}
		list = append(list, x)
		return true
	}
	m.flows.Each(add)
	offset = 0 // they have the host's time
	m.vsock.Each(add)
	return list
}

// Ends are the addresses of both, with their ports if they have some.
func (f *Flow) Ends() (from, to string) {
	if f.Vsock != nil {
		return f.Vsock[0].String(), f.Vsock[1].String()
	}
	where := func(a netip.AddrPort) string {
		if a.Port() == 0 {
			return a.Addr().String()
		}
		return a.String()
	}
	return where(f.Source), where(f.Destination)
}

// AtSwitch are the numbers by which the switch knows the flows that events call id, one
// for each VLAN that has such a flow.
func (m *Monitor) AtSwitch(id uint64) (flows []uint64) {
	m.flows.Each(func(f *lan.Flow) bool {
		if of(f) != nil && netOf(f).Flow == id {
			flows = append(flows, f.ID)
		}
		return true
	})
	return flows
}
