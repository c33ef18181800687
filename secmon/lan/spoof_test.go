package lan

import (
	"net/netip"
	"testing"

	"warder/devices/virtio/net"
	"warder/secmon/lan/packet"
)

// icmp6 is an ICMPv6 message of a type: its body, and an address that it is about.
func icmp6(kind byte, about netip.Addr, options ...byte) []byte {
	b := []byte{kind, 0, 0, 0, 0, 0, 0, 0}
	if about.IsValid() {
		b = append(b, about.AsSlice()...)
	}
	return append(b, options...)
}

func link(kind byte, m net.MAC) []byte { return append([]byte{kind, 1}, m[:]...) }

// TestSpoofing sends what speaks for others, on a LAN on which everything is allowed.
func TestSpoofing(t *testing.T) {
	s := New(Config{})
	a, b, up := plug(t, s, 1), plug(t, s, 2), plug(t, s, 3, uplink)
	all := []*guest{a, b, up}
	allow(t, s, everything)
	from := func(m net.MAC, f []byte) []byte { copy(f[6:], m[:]); return f }
	six := func(from, to netip.Addr, proto byte, b []byte) []byte {
		kind, p := ip(from, to, proto, b)
		return ether(mac(2), mac(1), kind, p)
	}
	own, other, nobody := linkLocal(mac(1)).IP(), v6(2), netip.IPv6Unspecified()
	for _, c := range []struct {
		what string
		from *guest
		b    []byte
		why  Reason
	}{
		{"another's MAC", a, from(mac(2), between(1, 2, packet.UDP, udp(1, 2))), SourceMAC},
		{"a MAC of nobody", a, from(mac(9), between(1, 2, packet.UDP, udp(1, 2))), SourceMAC},
		{"another's IPv4", a, from(mac(1), between(9, 2, packet.UDP, udp(1, 2))), SourceIP},
		{"another's IPv6", a, from(mac(1), between6(9, 2, packet.UDP, udp(1, 2))), SourceIP},
		{"another's link-local", a, six(linkLocal(mac(2)).IP(), other, packet.UDP, udp(1, 2)), SourceIP},
		{"an answer for another's address", a, arp(2, mac(2), mac(1), v4(9), v4(2)), Neighbour},
		{"a question as another", a, arp(1, toAll, mac(1), v4(9), v4(2)), Neighbour},
		{"an answer as nobody", a, arp(2, mac(2), mac(1), netip.IPv4Unspecified(), v4(2)), Neighbour},
		{"ARP with another MAC inside", a, from(mac(1), arp(2, mac(2), mac(9), v4(1), v4(2))), Neighbour},
		{"ND for another", a, six(own, other, packet.ICMPv6, icmp6(neighbourAdvert, other, link(2, mac(1))...)), Neighbour},
		{"ND with another's MAC", a, six(own, other, packet.ICMPv6, icmp6(neighbourAdvert, own, link(2, mac(9))...)), Neighbour},
		{"ND that asks with another's MAC", a, six(own, other, packet.ICMPv6, icmp6(neighbourSolicit, other, link(1, mac(9))...)), Neighbour},
		{"asks whether it may have another's", a, six(nobody, other, packet.ICMPv6, icmp6(neighbourSolicit, other)), Neighbour},
		{"an option without end", a, six(own, other, packet.ICMPv6, icmp6(neighbourSolicit, other, 1, 0, 0, 0, 0, 0, 0, 0)), Malformed},
		{"no address", a, six(nobody, other, packet.UDP, udp(1, 2)), SourceIP},
		{"a router", a, six(own, other, packet.ICMPv6, icmp6(routerAdvert, netip.Addr{})), Server},
		{"a redirect", a, six(own, other, packet.ICMPv6, icmp6(redirect, other)), Server},
		{"an IPv4 redirect", a, between(1, 2, packet.ICMP, []byte{5, 0, 0, 0, 0, 0, 0, 0}), Server},
		{"a DHCP server", a, between(1, 2, packet.UDP, udp(67, 68)), Server},
		{"a DHCPv6 server", a, between6(1, 2, packet.UDP, udp(547, 546)), Server},
		{"to an address that its receiver has not", a, from(mac(1), ether(mac(2), mac(1), packet.TypeIPv4, between(1, 9, packet.UDP, udp(1, 2))[etherHeader:])), Address},
		{"from outside, with a MAC of inside", up, between(1, 2, packet.UDP, udp(1, 2)), SourceMAC},
		{"from outside, with an address of inside", up, from(mac(9), between(1, 2, packet.UDP, udp(1, 2))), SourceIP},
		{"from outside, an answer for inside", up, arp(2, mac(2), mac(9), v4(1), v4(2)), SourceIP},
		{"no protocol of ours", a, ether(mac(2), mac(1), 0x88cc, make([]byte, 50)), Protocol},
		{"a header cut short", a, between(1, 2, packet.TCP, tcp(1, 2, 0)[:12]), Malformed},
		{"longer than it is", a, between(1, 2, packet.UDP, udp(1, 2, 1, 2, 3))[:44], Malformed},
		{"nothing", a, make([]byte, 5), Malformed},
	} {
		before := c.from.lost(c.why)
		c.from.send(c.b)
		expect(t, c.what, nil, all)
		if n := c.from.lost(c.why); n != before+1 {
			t.Errorf("%s is lost for another reason than %v: %v", c.what, c.why, c.from.port.Stats().Lost)
		}
	}
	for _, c := range []struct {
		what string
		from *guest
		b    []byte
		to   *guest
	}{
		{"who has it?", a, arp(1, toAll, mac(1), v4(1), v4(2)), b},
		{"I have", b, arp(2, mac(1), mac(2), v4(2), v4(1)), a},
		{"who has what nobody has here?", a, arp(1, toAll, mac(1), v4(1), v4(77)), up},
		{"may I have mine?", a, arp(1, toAll, mac(1), netip.IPv4Unspecified(), v4(77)), up},
		{"who has it, by IPv6?", a, six(own, netip.MustParseAddr("ff02::1:ff00:2"), packet.ICMPv6, icmp6(neighbourSolicit, other, link(1, mac(1))...)), b},
		{"DHCP", a, ether(toAll, mac(1), packet.TypeIPv4, packetOf(ip(netip.IPv4Unspecified(), netip.AddrFrom4([4]byte{255, 255, 255, 255}), packet.UDP, udp(68, 67)))), nil},
		{"from outside", up, from(mac(9), between(9, 2, packet.UDP, udp(1, 2))), b},
		{"back to outside", b, between(2, 9, packet.UDP, udp(2, 1)), up},
	} {
		c.from.send(c.b)
		if c.to == nil {
			expect(t, c.what, c.b, all, b, up)
		} else {
			expect(t, c.what, c.b, all, c.to)
		}
	}
}

func packetOf(_ uint16, b []byte) []byte { return b }

func TestIsolatedPorts(t *testing.T) {
	s := New(Config{})
	isolated := func(c *PortConfig) { c.Isolated = true }
	a, b, c := plug(t, s, 1, isolated), plug(t, s, 2, isolated), plug(t, s, 3)
	all := []*guest{a, b, c}
	allow(t, s, everything)
	a.send(between(1, 2, packet.UDP, udp(1, 2)))
	a.send(arp(1, toAll, mac(1), v4(1), v4(2)))
	expect(t, "isolated to isolated", nil, all)
	f := between(1, 3, packet.UDP, udp(1, 2))
	a.send(f)
	expect(t, "isolated to another", f, all, c)
	f = between(3, 2, packet.UDP, udp(1, 2))
	c.send(f)
	expect(t, "another to isolated", f, all, b)
}

// TestLearning has stations behind an uplink come, go elsewhere, grow old, and be too
// many.
func TestLearning(t *testing.T) {
	var s stations
	p, q := new(Port), new(Port)
	who := func(n int) station { return station{1, net.MAC{4, 0, 0, 0, byte(n >> 8), byte(n)}} }
	s.learn(who(0), p, 1)
	if s.find(who(0), 2) != p || s.find(who(0), 1+age) != nil || s.find(station{2, who(0).mac}, 2) != nil {
		t.Error("a station is not where it was seen, or for too long, or in another VLAN")
	}
	s.learn(who(0), q, 3)
	if s.find(who(0), 4) != q || s.behind[p] != 0 || s.behind[q] != 1 {
		t.Errorf("a station that moved: %v", s.behind)
	}
	for n := range 3 * maxLearned {
		s.learn(who(n), p, 10)
	}
	if n := s.behind[p]; n != maxLearned {
		t.Errorf("%d stations behind one port", n)
	}
	s.learn(who(5000), q, 11)
	if s.find(who(5000), 12) != q {
		t.Error("a port with many leaves no room for others")
	}
	s.learn(who(6000), p, 10+age)
	if s.find(who(6000), 11+age) != p {
		t.Error("the old do not make room")
	}
	s.forget(p)
	if s.find(who(6000), 11+age) != nil || s.find(who(5000), 12) != q {
		t.Error("forgot what is behind another port, or did not forget")
	}
}
