package net

import "encoding/binary"

// Parts of headers: Ethernet, 802.1Q, IPv4 (RFC 791), IPv6 (RFC 8200), TCP (RFC
// 9293), UDP (RFC 768).
const (
	etherHeader = 14
	etherType   = 12
	tagSize     = 4
	maxTags     = 2 * tagSize

	typeIPv4   = 0x0800
	typeIPv6   = 0x86dd
	typeVLAN   = 0x8100
	typeDouble = 0x88a8

	ipv4Header = 20
	ipv6Header = 40

	protoTCP = 6
	protoUDP = 17

	// Extension headers of IPv6 that may stand before TCP or UDP.
	hopByHop    = 0
	routing     = 43
	fragment    = 44
	destination = 60

	tcpHeader = 20
	tcpCsum   = 16
	udpHeader = 8
	udpCsum   = 6
)

// layers is where the headers of a frame are.
type layers struct {
	l3, l4, end int // offsets of the IP header, the header behind it, the payload
	v6          bool
	fragment    bool // of an IP packet: what is at l4 is no header but in the first
	proto       uint8
}

// parse finds the headers of a frame that is IP with, if it is TCP or UDP, whole
// headers of these too.
func parse(head []byte) (l layers, ok bool) {
	if len(head) < etherHeader {
		return l, false
	}
	kind := binary.BigEndian.Uint16(head[etherType:])
	l.l3 = etherHeader
	for tags := 0; (kind == typeVLAN || kind == typeDouble) && tags < maxTags; tags += tagSize {
		if len(head) < l.l3+tagSize {
			return l, false
		}
		kind = binary.BigEndian.Uint16(head[l.l3+2:])
		l.l3 += tagSize
	}
	switch kind {
	case typeIPv4:
		ok = l.ipv4(head)
	case typeIPv6:
		ok = l.ipv6(head)
	}
	return l, ok && l.transport(head)
}

func (l *layers) ipv4(head []byte) bool {
	if len(head) < l.l3+ipv4Header || head[l.l3]>>4 != 4 {
		return false
	}
	n := int(head[l.l3]&15) * 4
	l.proto = head[l.l3+9]
	l.fragment = binary.BigEndian.Uint16(head[l.l3+6:])&0x3fff != 0 // offset, more fragments
	l.l4 = l.l3 + n
	return n >= ipv4Header && l.l4 <= len(head)
}

func (l *layers) ipv6(head []byte) bool {
	if len(head) < l.l3+ipv6Header || head[l.l3]>>4 != 6 {
		return false
	}
	l.v6 = true
	l.proto = head[l.l3+6]
	l.l4 = l.l3 + ipv6Header
	for {
		switch l.proto {
		case hopByHop, routing, destination:
			if len(head) < l.l4+8 {
				return false
			}
			l.proto = head[l.l4]
			l.l4 += (int(head[l.l4+1]) + 1) * 8
		case fragment:
			l.fragment = true
			return true
		default:
			return l.l4 <= len(head)
		}
	}
}

// transport finds the end of a TCP or UDP header.
func (l *layers) transport(head []byte) bool {
	l.end = l.l4
	if l.fragment {
		return true
	}
	switch l.proto {
	case protoTCP:
		if len(head) < l.l4+tcpHeader {
			return false
		}
		n := int(head[l.l4+12]>>4) * 4
		l.end += n
		return n >= tcpHeader && l.end <= len(head)
	case protoUDP:
		l.end += udpHeader
		return l.end <= len(head)
	}
	return true
}

// flow is a number that is the same for all frames of a conversation, in both
// directions, so that their order is kept.
func flow(head []byte) uint32 {
	l, ok := parse(head)
	if !ok {
		if len(head) < etherHeader {
			return 0
		}
		return mix(uint32(head[3])^uint32(head[9]), uint32(head[4])^uint32(head[10]), uint32(head[5])^uint32(head[11]))
	}
	var a, b uint32
	if l.v6 {
		for off := l.l3 + 8; off < l.l3+24; off += 4 {
			a = a*31 + binary.BigEndian.Uint32(head[off:])
			b = b*31 + binary.BigEndian.Uint32(head[off+16:])
		}
	} else {
		a = binary.BigEndian.Uint32(head[l.l3+12:])
		b = binary.BigEndian.Uint32(head[l.l3+16:])
	}
	var ports uint32
	if !l.fragment && (l.proto == protoTCP || l.proto == protoUDP) {
		ports = uint32(binary.BigEndian.Uint16(head[l.l4:])) + uint32(binary.BigEndian.Uint16(head[l.l4+2:]))
	}
	return mix(a+b, ports, uint32(l.proto))
}

// mix spreads three words over one, by the finalizer of MurmurHash3.
func mix(a, b, c uint32) uint32 {
	h := a ^ b*0x9e3779b1 ^ c<<24
	h = (h ^ h>>16) * 0x85ebca6b
	h = (h ^ h>>13) * 0xc2b2ae35
	return h ^ h>>16
}
