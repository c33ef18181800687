package watch

import (
	"net/netip"
	"testing"

	"warder/secmon/event"
)

// The flow that a call opens has the process that made the call; another flow has not.
func TestOpeners(t *testing.T) {
	var o openers
	to := func(i uint16) netip.AddrPort { return netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 0, 2}), i) }
	call := func(at int64, pid uint32, port uint16) {
		o.note(&event.Event{Time: at, Kind: event.Syscall, VM: "a", Process: event.Process{PID: pid}, Call: event.Call{Name: "connect"}, Net: &event.Net{Transport: "tcp", Destination: to(port), Initiated: true}})
	}
	flow := func(at int64, transport string, port uint16) uint32 {
		e := event.Event{Time: at, Kind: event.Flow, Action: event.Began, VM: "a", Net: &event.Net{Transport: transport, Destination: to(port), SourceVM: "a", Initiated: true}}
		o.name(&e)
		return e.Process.PID
	}
	call(1, 7, 80)
	call(2, 8, 443)
	call(3, 9, 443)
	o.note(&event.Event{Time: 3, Kind: event.Syscall, VM: "a", Process: event.Process{PID: 10}, Call: event.Call{Name: "write"}, Net: &event.Net{Transport: "tcp", Destination: to(80), Initiated: true}})
	for _, c := range []struct {
		at        int64
		transport string
		port      uint16
		want      uint32
	}{{4, "tcp", 80, 7}, {4, "tcp", 443, 9}, {4, "udp", 80, 0}, {4, "tcp", 22, 0}, {openTime + 2, "tcp", 80, 0}} {
		if got := flow(c.at, c.transport, c.port); got != c.want {
			t.Errorf("%s to port %d at %d: process %d, want %d", c.transport, c.port, c.at, got, c.want)
		}
	}
	for port := range uint32(2) {
		e := event.Event{Time: 4, Kind: event.Syscall, VM: "a", Process: event.Process{PID: 20 + port}, Net: &event.Net{Transport: event.Vsock, Initiated: true}}
		e.Net.Vsock[1] = event.VsockEnd{CID: 2, Port: port}
		o.note(&e)
	}
	e := event.Event{Time: 5, Kind: event.Flow, Action: event.Began, VM: "a", Net: &event.Net{Transport: event.Vsock, SourceVM: "a", Vsock: [2]event.VsockEnd{{CID: 3, Port: 9}, {CID: 2, Port: 1}}}}
	if o.name(&e); e.Process.PID != 21 {
		t.Errorf("by vsock: process %d", e.Process.PID)
	}
	for i := range uint16(2 * maxOpeners) {
		call(int64(10+i), 5, 1000+i)
	}
	if len(o.last) != maxOpeners || flow(600, "tcp", 80) != 0 || flow(600, "tcp", 1000+2*maxOpeners-1) != 5 {
		t.Errorf("%d openers are remembered", len(o.last))
	}
}
