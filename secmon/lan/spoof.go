package lan

import (
	"net/netip"
	"slices"

	"warder/devices/virtio/net"
	"warder/secmon/lan/packet"
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
func linkLocal(m net.MAC) packet.Addr { return packet.AddrOf(LinkLocal(m)) }

// LinkLocal is the link-local address that belongs to a MAC address.
func LinkLocal(m net.MAC) netip.Addr {
	return Autoconfigured(netip.PrefixFrom(netip.AddrFrom16([16]byte{0xfe, 0x80}), 64), m)
}

// Autoconfigured is the address that an interface makes of a prefix of 64 bits and its MAC
// address (RFC 4862, 5.5.3).
func Autoconfigured(prefix netip.Prefix, m net.MAC) netip.Addr {
	a := prefix.Addr().As16()
	copy(a[8:], []byte{m[0] ^ 2, m[1], m[2], 0xff, 0xfe, m[3], m[4], m[5]})
	return netip.AddrFrom16(a)
}

// Addresses of who has none yet.
var (
	nobody  = packet.AddrOf(netip.IPv4Unspecified())
	nobody6 packet.Addr
)

// has reports whether a was assigned to the port.
func (p *Port) has(a packet.Addr) bool { return slices.Contains(p.addrs, a) }

// honest says why a frame that the port sends speaks for somebody else, None if it
// does not.
func (p *Port) honest(t *table, vlan uint16, f *net.Frame, h *packet.Headers) Reason {
	if p.cfg.Uplink || p.cfg.Trusted {
		return p.honestUplink(t, vlan, f, h)
	}
	if net.MAC(f.Head[6:]) != p.cfg.MAC {
		return SourceMAC
	}
	switch h.Type {
	case packet.TypeARP:
		return p.honestARP(&h.ARP)
	case packet.TypeIPv4:
		if h.Protocol == packet.UDP && h.SrcPort == dhcpServer || h.Protocol == packet.ICMP && h.ICMPType == redirectIPv4 {
			return Server
		}
		if p.has(h.Src) || h.Src == nobody && asksDHCP(h) {
			return None
		}
	case packet.TypeIPv6:
		return p.honestIPv6(f.Head, h)
	}
	return SourceIP
}

// honestUplink is for a port with others behind it, who are not those of other ports.
func (p *Port) honestUplink(t *table, vlan uint16, f *net.Frame, h *packet.Headers) Reason {
	if other := t.stations[station{vlan, net.MAC(f.Head[6:])}]; other != nil && other != p {
		return SourceMAC
	}
	src := h.Src
	if h.Type == packet.TypeARP {
		src = h.ARP.Sender
	}
	if other := t.addresses[address{vlan, src}]; other != nil && other != p {
		return SourceIP
	}
	return None
}

// asksDHCP reports whether a packet is the question of one that has no address yet.
func asksDHCP(h *packet.Headers) bool {
	return h.Protocol == packet.UDP && !h.Fragment && h.SrcPort == dhcpClient && h.DstPort == dhcpServer
}

func (p *Port) honestARP(a *packet.ARP) Reason {
	// A probe for an address (RFC 5227) says nothing of who asks.
	probe := a.Sender == nobody && a.Op == packet.ARPRequest
	if net.MAC(a.SenderMAC) != p.cfg.MAC || !probe && !p.has(a.Sender) {
		return Neighbour
	}
	return None
}

func (p *Port) honestIPv6(head []byte, h *packet.Headers) Reason {
	if h.Protocol == packet.UDP && h.SrcPort == dhcpv6Server {
		return Server
	}
	nobody := h.Src == nobody6
	if !nobody && !p.has(h.Src) {
		return SourceIP
	}
	if h.Protocol != packet.ICMPv6 {
		if nobody {
			return SourceIP
		}
		return None
	}
	if h.Fragment { // discovery never is one (RFC 6980)
		return Neighbour
	}
	switch h.ICMPType {
	case routerAdvert, redirect, listenerQuery:
		return Server
	case routerSolicit:
		return honestOptions(head, h, 4, p.cfg.MAC)
	case neighbourSolicit, neighbourAdvert:
		target, ok := discovered(head, h)
		if !ok {
			return Malformed
		}
		// Who asks without an address asks whether it may take that one; who
		// answers says that it has it.
		if (nobody || h.ICMPType == neighbourAdvert) && !p.has(target) {
			return Neighbour
		}
		return honestOptions(head, h, 4+16, p.cfg.MAC)
	case listenerReport, listenerReport2, listenerDone:
		return None
	}
	if nobody {
		return SourceIP
	}
	return None
}

// discovers reports whether a packet is of those by which neighbours, routers and groups
// are found: no conversation.
func discovers(h *packet.Headers) bool {
	return h.Protocol == packet.ICMPv6 && (listenerQuery <= h.ICMPType && h.ICMPType <= redirect || h.ICMPType == listenerReport2)
}

// discovered is the address that neighbour discovery is about, behind the message's four
// bytes of flags.
func discovered(head []byte, h *packet.Headers) (target packet.Addr, ok bool) {
	at := h.Payload + 4
	if h.PayloadLen < 4+16 || len(head) < at+16 {
		return target, false
	}
	return packet.Addr(head[at:]), true
}

// honestOptions looks at the options of a discovery message, behind the first n bytes of
// what comes after its checksum: link-layer addresses in them are the port's.
func honestOptions(head []byte, h *packet.Headers, n int, own net.MAC) Reason {
	end := h.Payload + h.PayloadLen
	if end > len(head) || h.PayloadLen < n {
		return Malformed
	}
	for b := head[h.Payload+n : end]; len(b) > 0; {
		if len(b) < 8 || b[1] == 0 || int(b[1])*8 > len(b) {
			return Malformed
		}
		if (b[0] == sourceLinkOption || b[0] == targetLinkOption) && (b[1] != 1 || net.MAC(b[2:]) != own) {
			return Neighbour
		}
		b = b[int(b[1])*8:]
	}
	return None
}
