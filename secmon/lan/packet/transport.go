package packet

import "encoding/binary"

// transport reads the header of the transport, which begins at at in a packet that
// ends at end.
func (h *Headers) transport(head []byte, at, end, wire int) {
	h.Payload, h.PayloadLen = at, end-at
	if h.Fragment && int(h.FragmentOffset)+end-at > 0xffff {
		h.Fault = LongFragments
		return
	}
	if h.Fragment && h.FragmentOffset != 0 {
		if h.Protocol == TCP && h.FragmentOffset == 8 {
			h.Fault = TinyFragment // would overlay the flags, RFC 1858
		}
		return
	}
	if h.Src == h.Dst && (h.Protocol == TCP || h.Protocol == UDP) {
		h.Fault = ToItself
		return
	}
	if h.Protocol == ICMP && h.Type != TypeIPv4 || h.Protocol == ICMPv6 && h.Type != TypeIPv6 {
		h.Fault = OddVersion
		return
	}
	p := head[at:min(end, len(head))]
	var n int
	switch h.Protocol {
	case TCP:
		if n = tcpSize; len(p) >= n {
			n = h.tcp(p)
		}
	case UDP:
		if n = udpSize; len(p) >= n {
			end = at + h.udp(p, end-at)
		}
	case ICMP, ICMPv6:
		if n = icmpSize; len(p) >= n {
			h.icmp(p)
		}
	default:
		return
	}
	switch {
	case h.Fault != 0:
	case len(p) < n && at+n > wire, len(p) < n && at+n > end:
		h.Fault = ShortTransport
		if h.Fragment {
			h.Fault = TinyFragment
		}
	case len(p) < n:
		h.Fault = LongHeaders
	default:
		h.Transport = true
		h.Payload, h.PayloadLen = at+n, end-at-n
	}
}

// tcp reads a header and gives its length.
func (h *Headers) tcp(p []byte) int {
	h.SrcPort, h.DstPort = binary.BigEndian.Uint16(p), binary.BigEndian.Uint16(p[2:])
	h.Seq, h.Ack = binary.BigEndian.Uint32(p[4:]), binary.BigEndian.Uint32(p[8:])
	h.Flags, h.Window = p[13]&0x3f, binary.BigEndian.Uint16(p[14:])
	n := int(p[12]>>4) * 4
	if n < tcpSize {
		h.Fault = OddHeaderLength
	}
	switch {
	case h.Fault != 0:
	case h.Flags&(SYN|FIN) == SYN|FIN, h.Flags&(SYN|RST) == SYN|RST, h.Flags&(SYN|RST|ACK) == 0:
		// No state of TCP sends these; scanners do (null, FIN and Xmas scans).
		h.Fault = OddFlags
	}
	return n
}

// udp reads a header and gives the length of the datagram, of which available bytes
// are there.
func (h *Headers) udp(p []byte, available int) int {
	h.SrcPort, h.DstPort = binary.BigEndian.Uint16(p), binary.BigEndian.Uint16(p[2:])
	n := int(binary.BigEndian.Uint16(p[4:]))
	if n < udpSize || !h.Fragment && n > available {
		h.Fault = OddLength
		return available
	}
	return min(n, available)
}

// icmp reads type and code, and has an echo be a flow by its identifier.
func (h *Headers) icmp(p []byte) {
	kind := p[0]
	echo := h.Protocol == ICMP && (kind == 8 || kind == 0) || h.Protocol == ICMPv6 && (kind == 128 || kind == 129)
	h.ICMPType = kind
	h.SrcPort, h.DstPort = uint16(kind), uint16(p[1])
	if echo && len(p) >= 6 {
		id := binary.BigEndian.Uint16(p[4:])
		h.SrcPort, h.DstPort = id, id
	}
}
