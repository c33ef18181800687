package lan

import (
	"encoding/binary"
	"net/netip"

	"warder/secmon/lan/packet"
)

// Sizes of headers, in bytes.
const (
	etherHeader = 14
	ipv4Header  = 20
	ipv6Header  = 40
	icmpHeader  = 8
	etherType   = 12 // where it is
)

// icmpError reports whether a packet tells of something wrong with another, the
// beginning of which it carries.
func icmpError(h *packet.Headers) bool {
	return h.Transport && (h.Protocol == packet.ICMP && (h.ICMPType == 3 || h.ICMPType == 11 || h.ICMPType == 12) ||
		h.Protocol == packet.ICMPv6 && h.ICMPType >= 1 && h.ICMPType <= 4)
}

// closes reports whether an ICMP error says that nobody is at a port.
func closes(h *packet.Headers) bool {
	kind, code := h.SrcPort, h.DstPort
	return h.Protocol == packet.ICMP && kind == unreachable && code == closedPort || h.Protocol == packet.ICMPv6 && kind == unreachable6 && code == closedPort6
}

// quoted reads what an ICMP error quotes of the packet that it is about: addresses, and
// the ports of TCP and UDP or the identifier of an echo.
func quoted(h *packet.Headers, head []byte) (q packet.Headers, ok bool) {
	b := head[min(h.Payload+4, len(head)):] // four bytes of the message are not the quote's
	l4 := ipv4Header
	switch {
	case h.Protocol == packet.ICMP && len(b) >= ipv4Header && b[0]>>4 == 4:
		l4 = int(b[0]&15) * 4
		q.Protocol = b[9]
		q.Src, q.Dst = packet.AddrOf(netip.AddrFrom4([4]byte(b[12:]))), packet.AddrOf(netip.AddrFrom4([4]byte(b[16:])))
	case h.Protocol == packet.ICMPv6 && len(b) >= ipv6Header && b[0]>>4 == 6:
		l4 = ipv6Header
		q.Protocol = b[6]
		q.Src, q.Dst = packet.Addr(b[8:24]), packet.Addr(b[24:40])
	default:
		return q, false
	}
	if l4 < ipv4Header || len(b) < l4+icmpHeader {
		return q, false
	}
	b = b[l4:]
	switch q.Protocol {
	case packet.TCP, packet.UDP:
		q.SrcPort, q.DstPort = binary.BigEndian.Uint16(b), binary.BigEndian.Uint16(b[2:])
	case packet.ICMP, packet.ICMPv6:
		q.Transport, q.ICMPType = true, b[0]
		if !q.Echo() {
			return q, false
		}
		q.SrcPort = binary.BigEndian.Uint16(b[4:])
		q.DstPort = q.SrcPort
	default:
		return q, false
	}
	return q, true
}
