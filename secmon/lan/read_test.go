package lan

import (
	"net/netip"
	"testing"

	"warder/secmon/lan/packet"
	"warder/secmon/lan/request"
)

// TestReadByGateway has one service speak to another by way of the gateway: the one that is
// spoken to gets no frame of it, and the gateway speaks for it in that flow and no other.
func TestReadByGateway(t *testing.T) {
	s := New(Config{})
	a, b, c := plug(t, s, 1), plug(t, s, 2), plug(t, s, 3)
	g := plug(t, s, 9, func(cfg *PortConfig) { cfg.Trusted = true })
	all := []*guest{a, b, c, g}
	read := Rule{From: "vm1", To: "vm2", Proto: packet.TCP, First: 80, Last: 80, HTTP: &request.HTTP{Paths: []string{"/v1"}}}
	allow(t, s, read, Rule{From: "vm3", To: "vm2", Proto: packet.TCP, First: 22, Last: 22})
	as := func(who, to byte, port, toPort uint16, flags byte) []byte { // from the gateway, as another
		f := between(who, to, packet.TCP, tcp(port, toPort, flags))
		copy(f[6:12], g.port.cfg.MAC[:])
		return f
	}
	syn, back := between(1, 2, packet.TCP, tcp(1000, 80, packet.SYN)), as(2, 1, 80, 1000, packet.SYN|packet.ACK)
	for _, step := range []struct {
		what string
		from *guest
		b    []byte
		to   *guest // nil: nobody
	}{
		{"the gateway for one that nobody speaks to", g, back, nil},
		{"a first segment", a, syn, g},
		{"its answer, of the gateway's", g, back, a},
		{"more", a, between(1, 2, packet.TCP, tcp(1000, 80, packet.ACK, 1, 2, 3)), g},
		{"the gateway for it at another port", g, as(2, 1, 81, 1000, packet.ACK), nil},
		{"the gateway for another", g, as(3, 1, 80, 1000, packet.ACK), nil},
		{"the gateway opens in its name", g, as(2, 1, 80, 1000, packet.SYN), nil},
		{"another port", a, between(1, 2, packet.TCP, tcp(1000, 81, packet.SYN)), nil},
		{"another service", c, between(3, 2, packet.TCP, tcp(1000, 80, packet.SYN)), nil},
		{"what is allowed as a whole", c, between(3, 2, packet.TCP, tcp(1000, 22, packet.SYN)), b},
		{"the gateway for what it does not read", g, as(2, 3, 22, 1000, packet.ACK), nil},
		{"the gateway as itself", g, between(9, 2, packet.TCP, tcp(5000, 80, packet.SYN)), b},
	} {
		step.from.send(step.b)
		if step.to != nil {
			expect(t, step.what, step.b, all, step.to)
		} else {
			expect(t, step.what, nil, all)
		}
	}
	rules, whole := s.Requests(a.port, b.port, packet.TCP, 80)
	if len(rules) != 1 || rules[0].HTTP != read.HTTP || whole {
		t.Errorf("%v, %v", rules, whole)
	}
	allow(t, s)
	a.send(between(1, 2, packet.TCP, tcp(1000, 80, packet.ACK)))
	g.send(as(2, 1, 80, 1000, packet.ACK))
	expect(t, "not allowed any more", nil, all)
	if who := s.Owner(1, netip.AddrFrom4([4]byte{10, 0, 0, 2})); who != b.port {
		t.Errorf("10.0.0.2 is of %v", who)
	}
}
