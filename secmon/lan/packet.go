package lan

import (
	"encoding/binary"
	"net/netip"

	"warder/devices/virtio/net"
)

// Parts of headers: Ethernet, 802.1Q, ARP (RFC 826), IPv4 (RFC 791), IPv6 (RFC 8200),
// TCP (RFC 9293), UDP (RFC 768), ICMPv6 (RFC 4443).
const (
	etherHeader = 14
	etherType   = 12
	arpLength   = 28
	ipv4Header  = 20
	ipv6Header  = 40
	tcpHeader   = 20
	udpHeader   = 8
	icmpHeader  = 8

	typeARP  = 0x0806
	typeIPv4 = 0x0800
	typeIPv6 = 0x86dd
)

// Protocols above IP, by their IANA numbers.
const (
	ICMP   = 1
	TCP    = 6
	UDP    = 17
	ICMPv6 = 58
)

// Extension headers of IPv6.
const (
	hopByHop    = 0
	routing     = 43
	fragment    = 44
	destination = 60
	// maxExtensions bounds how many are followed.
	maxExtensions = 8
)

// Kind is what a frame carries.
type Kind uint8

// Kinds of frames.
const (
	Other Kind = iota
	ARP
	IPv4
	IPv6
)

// Packet is what the headers of a frame say. It is comparable, and holds nothing of
// the frame's memory.
type Packet struct {
	Kind Kind
	// Proto is the protocol above IP, behind extension headers.
	Proto uint8
	// Fragment says that the packet is a fragment of one, Later that it is not the
	// first, which has no header of Proto.
	Fragment, Later bool
	// FragmentID is the same for all fragments of a packet.
	FragmentID uint32
	// TCPFlags are those of the TCP header: FIN is 1, SYN 2, RST 4, ACK 16.
	TCPFlags uint8
	// L3, L4 and Payload are where the header of IP or ARP, that of Proto, and what
	// is behind it begin in the frame. A protocol that is not known is all payload.
	L3, L4, Payload int
	// Length is how long the IP packet says to be, in bytes. The frame is as long
	// at least; what is behind is padding. Of a frame that is to be cut it is that
	// of the whole.
	Length int
	// Source and Destination are the addresses of IP, or those that ARP speaks of.
	// An IPv4 address is never mapped to IPv6.
	Source, Destination netip.Addr
	// SourcePort and DestinationPort are those of TCP and UDP. Of ICMP they are
	// the identifier of an echo and 0, of its answer 0 and the identifier.
	SourcePort, DestinationPort uint16
	// ICMPType is the type of an ICMP or ICMPv6 message.
	ICMPType uint8
}

// Parse reads the headers of a frame without a VLAN tag. It says why the switch would
// not let the frame pass.
func Parse(f *net.Frame) (p Packet, why Reason) {
	why = p.parse(f)
	return p, why
}

// parse reads the headers of a frame without a VLAN tag, which all lie in its head. It
// says why the frame has to be lost.
func (p *Packet) parse(f *net.Frame) Reason {
	*p = Packet{L3: etherHeader}
	head := f.Head
	if len(head) < etherHeader {
		return Malformed
	}
	switch binary.BigEndian.Uint16(head[etherType:]) {
	case typeARP:
		return p.arp(head)
	case typeIPv4:
		return p.ipv4(head, f)
	case typeIPv6:
		return p.ipv6(head, f)
	}
	return Protocol
}

func (p *Packet) arp(head []byte) Reason {
	b := head[p.L3:]
	// Ethernet, IPv4, with addresses of 6 and 4 bytes: a request or a reply.
	if len(b) < arpLength || [6]byte(b) != [6]byte{0, 1, 8, 0, 6, 4} || b[6] != 0 || b[7] != 1 && b[7] != 2 {
		return Malformed
	}
	p.Kind, p.L4, p.Payload, p.Length = ARP, p.L3+arpLength, p.L3+arpLength, arpLength
	p.Source, p.Destination = netip.AddrFrom4([4]byte(b[14:])), netip.AddrFrom4([4]byte(b[24:]))
	return None
}

func (p *Packet) ipv4(head []byte, f *net.Frame) Reason {
	b := head[p.L3:]
	if len(b) < ipv4Header || b[0]>>4 != 4 {
		return Malformed
	}
	p.Kind, p.Proto = IPv4, b[9]
	header := int(b[0]&15) * 4
	p.L4 = p.L3 + header
	p.Length = int(binary.BigEndian.Uint16(b[2:]))
	if header < ipv4Header || header > len(b) || p.Length < header || !p.fits(f) {
		return Malformed
	}
	where := binary.BigEndian.Uint16(b[6:])
	p.Fragment, p.Later = where&0x3fff != 0, where&0x1fff != 0
	if p.Fragment {
		p.FragmentID = uint32(binary.BigEndian.Uint16(b[4:]))
	}
	p.Source, p.Destination = netip.AddrFrom4([4]byte(b[12:])), netip.AddrFrom4([4]byte(b[16:]))
	return p.transport(head)
}

func (p *Packet) ipv6(head []byte, f *net.Frame) Reason {
	b := head[p.L3:]
	if len(b) < ipv6Header || b[0]>>4 != 6 {
		return Malformed
	}
	p.Kind, p.Proto = IPv6, b[6]
	p.L4 = p.L3 + ipv6Header
	p.Length = ipv6Header + int(binary.BigEndian.Uint16(b[4:]))
	p.Source, p.Destination = netip.AddrFrom16([16]byte(b[8:])), netip.AddrFrom16([16]byte(b[24:]))
	if p.Source.Is4In6() || p.Destination.Is4In6() || !p.fits(f) {
		return Malformed // mapped addresses never are on a wire
	}
	for range maxExtensions {
		b := head[min(p.L4, len(head)):]
		switch p.Proto {
		case hopByHop, routing, destination:
			if len(b) < 8 {
				return Malformed
			}
			p.Proto = b[0]
			p.L4 += (int(b[1]) + 1) * 8
		case fragment:
			if len(b) < 8 || p.Fragment {
				return Malformed
			}
			p.Fragment, p.Later = true, binary.BigEndian.Uint16(b[2:])&0xfff8 != 0
			p.FragmentID = binary.BigEndian.Uint32(b[4:])
			p.Proto = b[0]
			p.L4 += 8
			if p.Later {
				return p.transport(head)
			}
		default:
			return p.transport(head)
		}
	}
	return Malformed
}

// fits reports whether the packet is all in the frame. What is to be cut may be
// longer than the header says, as it is of Linux's own.
func (p *Packet) fits(f *net.Frame) bool {
	if f.GSO != net.NoGSO {
		p.Length = f.Len - p.L3
		return true
	}
	return p.L3+p.Length <= f.Len
}

// transport reads the header above IP. One that is cut short is of no use to anybody
// but who wants to get past a filter.
func (p *Packet) transport(head []byte) Reason {
	p.Payload = p.L4
	if p.L4 > len(head) || p.L4 > p.L3+p.Length {
		return Malformed
	}
	if p.Later {
		return None
	}
	b := head[p.L4:]
	room := min(len(b), p.L3+p.Length-p.L4)
	switch p.Proto {
	case TCP:
		if room < tcpHeader {
			return Malformed
		}
		n := int(b[12]>>4) * 4
		if n < tcpHeader || n > room {
			return Malformed
		}
		p.TCPFlags = b[13]
		p.ports(b)
		p.Payload += n
	case UDP:
		if room < udpHeader {
			return Malformed
		}
		p.ports(b)
		p.Payload += udpHeader
	case ICMP, ICMPv6:
		if (p.Proto == ICMP) != (p.Kind == IPv4) || room < icmpHeader {
			return Malformed
		}
		p.ICMPType = b[0]
		p.Payload += icmpHeader
		id := binary.BigEndian.Uint16(b[4:])
		switch {
		case p.echo():
			p.SourcePort = id
		case p.echoReply():
			p.DestinationPort = id
		}
	}
	return None
}

func (p *Packet) ports(b []byte) {
	p.SourcePort, p.DestinationPort = binary.BigEndian.Uint16(b), binary.BigEndian.Uint16(b[2:])
}

func (p *Packet) echo() bool {
	return p.Proto == ICMP && p.ICMPType == 8 || p.Proto == ICMPv6 && p.ICMPType == 128
}

func (p *Packet) echoReply() bool {
	return p.Proto == ICMP && p.ICMPType == 0 || p.Proto == ICMPv6 && p.ICMPType == 129
}

// icmpError reports whether the packet tells of something wrong with another, the
// beginning of which it carries.
func (p *Packet) icmpError() bool {
	return p.Proto == ICMP && (p.ICMPType == 3 || p.ICMPType == 11 || p.ICMPType == 12) ||
		p.Proto == ICMPv6 && p.ICMPType >= 1 && p.ICMPType <= 4
}

// quoted is the packet that an ICMP error tells of. Its ports are those of TCP and UDP,
// and an identifier of ICMP.
func (p *Packet) quoted(head []byte) (q Packet, ok bool) {
	b := head[min(p.Payload, len(head)):]
	l4 := ipv4Header
	switch {
	case p.Kind == IPv4 && len(b) >= ipv4Header && b[0]>>4 == 4:
		l4 = int(b[0]&15) * 4
		q.Kind, q.Proto = IPv4, b[9]
		q.Source, q.Destination = netip.AddrFrom4([4]byte(b[12:])), netip.AddrFrom4([4]byte(b[16:]))
	case p.Kind == IPv6 && len(b) >= ipv6Header && b[0]>>4 == 6:
		l4 = ipv6Header
		q.Kind, q.Proto = IPv6, b[6]
		q.Source, q.Destination = netip.AddrFrom16([16]byte(b[8:])), netip.AddrFrom16([16]byte(b[24:]))
	default:
		return q, false
	}
	if l4 < ipv4Header || len(b) < l4+icmpHeader {
		return q, false
	}
	b = b[l4:]
	switch q.Proto {
	case TCP, UDP:
		q.ports(b)
	case ICMP, ICMPv6:
		q.ICMPType = b[0]
		if !q.echo() {
			return q, false
		}
		q.SourcePort = binary.BigEndian.Uint16(b[4:])
	default:
		return q, false
	}
	return q, true
}
