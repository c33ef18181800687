package lan

import (
	"net/netip"
	"slices"

	"warder/devices/virtio/net"
)

// Ports of UDP that only warder answers from, and the one that asks.
const (
	dhcpServer   = 67
	dhcpClient   = 68
	dhcpv6Server = 547
)

// redirectIPv4 is the ICMP message by which a router sends somebody elsewhere.
const redirectIPv4 = 5

// Messages of neighbour discovery (RFC 4861) and of multicast listeners.
const (
	listenerQuery    = 130
	listenerReport   = 131
	listenerDone     = 132
	routerSolicit    = 133
	routerAdvert     = 134
	neighbourSolicit = 135
	neighbourAdvert  = 136
	redirect         = 137
	listenerReport2  = 143

	sourceLinkOption = 1
	targetLinkOption = 2
)

// linkLocal is the address that an interface gives itself by its MAC (RFC 4291,
// appendix A).
func linkLocal(m net.MAC) netip.Addr {
	return netip.AddrFrom16([16]byte{0: 0xfe, 1: 0x80, 8: m[0] ^ 2, 9: m[1], 10: m[2], 11: 0xff, 12: 0xfe, 13: m[3], 14: m[4], 15: m[5]})
}

// has reports whether a was assigned to the port.
func (p *Port) has(a netip.Addr) bool {
	return slices.Contains(p.cfg.Addresses, a) || a == p.linkLocal
}

// honest says why a frame that the port sends speaks for somebody else, None if it
// does not.
func (p *Port) honest(t *table, vlan uint16, f *net.Frame, pkt *Packet) Reason {
	if p.cfg.Uplink || p.cfg.Trusted {
		return p.honestUplink(t, vlan, f, pkt)
	}
	if net.MAC(f.Head[6:]) != p.cfg.MAC {
		return SourceMAC
	}
	switch pkt.Kind {
	case ARP:
		return p.honestARP(f.Head, pkt)
	case IPv4:
		if pkt.Proto == UDP && !pkt.Later && pkt.SourcePort == dhcpServer || pkt.Proto == ICMP && pkt.ICMPType == redirectIPv4 {
			return Server
		}
		if p.has(pkt.Source) || pkt.Source == netip.IPv4Unspecified() && asksDHCP(pkt) {
			return None
		}
	case IPv6:
		return p.honestIPv6(f.Head, pkt)
	}
	return SourceIP
}

// honestUplink is for a port with others behind it, who are not those of other ports.
func (p *Port) honestUplink(t *table, vlan uint16, f *net.Frame, pkt *Packet) Reason {
	if other := t.stations[station{vlan, net.MAC(f.Head[6:])}]; other != nil && other != p {
		return SourceMAC
	}
	if other := t.addresses[address{vlan, pkt.Source}]; other != nil && other != p {
		return SourceIP
	}
	return None
}

// asksDHCP reports whether pkt is the question of one that has no address yet.
func asksDHCP(pkt *Packet) bool {
	return pkt.Proto == UDP && !pkt.Fragment && pkt.SourcePort == dhcpClient && pkt.DestinationPort == dhcpServer
}

func (p *Port) honestARP(head []byte, pkt *Packet) Reason {
	// A probe for an address (RFC 5227) says nothing of who asks.
	probe := pkt.Source == netip.IPv4Unspecified() && head[etherHeader+7] == 1
	if net.MAC(head[etherHeader+8:]) != p.cfg.MAC || !probe && !p.has(pkt.Source) {
		return Neighbour
	}
	return None
}

func (p *Port) honestIPv6(head []byte, pkt *Packet) Reason {
	if pkt.Proto == UDP && !pkt.Later && pkt.SourcePort == dhcpv6Server {
		return Server
	}
	nobody := pkt.Source == netip.IPv6Unspecified()
	if !nobody && !p.has(pkt.Source) {
		return SourceIP
	}
	if pkt.Proto != ICMPv6 {
		if nobody {
			return SourceIP
		}
		return None
	}
	if pkt.Fragment { // discovery never is one (RFC 6980)
		return Neighbour
	}
	switch pkt.ICMPType {
	case routerAdvert, redirect, listenerQuery:
		return Server
	case routerSolicit:
		return p.honestOptions(head, pkt, icmpHeader)
	case neighbourSolicit, neighbourAdvert:
		target, ok := discovered(head, pkt)
		if !ok {
			return Malformed
		}
		// Who asks without an address asks whether it may take that one; who
		// answers says that it has it.
		if (nobody || pkt.ICMPType == neighbourAdvert) && !p.has(target) {
			return Neighbour
		}
		return p.honestOptions(head, pkt, icmpHeader+16)
	case listenerReport, listenerReport2, listenerDone:
		return None
	}
	if nobody {
		return SourceIP
	}
	return None
}

// discovered is the address that neighbour discovery is about.
func discovered(head []byte, pkt *Packet) (target netip.Addr, ok bool) {
	if len(head) < pkt.Payload+16 || pkt.L3+pkt.Length < pkt.Payload+16 {
		return target, false
	}
	return netip.AddrFrom16([16]byte(head[pkt.Payload:])), true
}

// honestOptions looks at the options of a discovery message behind its first n bytes:
// link-layer addresses in them are the port's.
func (p *Port) honestOptions(head []byte, pkt *Packet, n int) Reason {
	end := pkt.L3 + pkt.Length
	if end > len(head) || pkt.L4+n > end {
		return Malformed
	}
	for b := head[pkt.L4+n : end]; len(b) > 0; {
		if len(b) < 8 || b[1] == 0 || int(b[1])*8 > len(b) {
			return Malformed
		}
		if (b[0] == sourceLinkOption || b[0] == targetLinkOption) && (b[1] != 1 || net.MAC(b[2:]) != p.cfg.MAC) {
			return Neighbour
		}
		b = b[int(b[1])*8:]
	}
	return None
}
