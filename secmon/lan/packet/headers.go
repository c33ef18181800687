package packet

import (
	"encoding/binary"
	"net/netip"
)

// MAC is a hardware address.
type MAC [6]byte

// Multicast reports whether a is a group's address, the broadcast among them.
func (a MAC) Multicast() bool { return a[0]&1 != 0 }

// String is the address as two hexadecimal digits a byte.
func (a MAC) String() string {
	const digits = "0123456789abcdef"
	var b [17]byte
	for i, x := range a {
		if i > 0 {
			b[3*i-1] = ':'
		}
		b[3*i], b[3*i+1] = digits[x>>4], digits[x&15]
	}
	return string(b[:])
}

// Addr is an IP address, one of IPv4 as the IPv6 address that stands for it.
type Addr [16]byte

// IP is the address as the standard library has it.
func (a Addr) IP() netip.Addr { return netip.AddrFrom16(a).Unmap() }

// AddrOf is the address of ip, zero for one that is not valid.
func AddrOf(ip netip.Addr) Addr {
	if !ip.IsValid() {
		return Addr{}
	}
	return Addr(ip.As16())
}

func (a *Addr) setIPv4(p []byte) {
	*a = Addr{10: 0xff, 11: 0xff, 12: p[0], 13: p[1], 14: p[2], 15: p[3]}
}

// EtherTypes.
const (
	TypeIPv4   = 0x0800
	TypeARP    = 0x0806
	TypeVLAN   = 0x8100 // 802.1Q
	TypeDouble = 0x88a8 // 802.1ad
	TypeIPv6   = 0x86dd
)

// Protocols of IP.
const (
	ICMP   = 1
	TCP    = 6
	UDP    = 17
	ICMPv6 = 58
)

// Flags of TCP.
const (
	FIN = 1 << iota
	SYN
	RST
	PSH
	ACK
	URG
)

// Sizes in bytes.
const (
	etherSize = 14
	tagSize   = 4
	arpSize   = 28
	ipv4Size  = 20
	ipv6Size  = 40
	tcpSize   = 20
	udpSize   = 8
	icmpSize  = 4

	// maxTags is how many tags a frame may have: 802.1ad knows two.
	maxTags = 2
	// maxExtensions is how many extension headers of IPv6 are followed. No
	// sender has a reason for more than one of each kind.
	maxExtensions = 8
)

// Headers are the headers of one frame. The zero value is ready; Decode
// overwrites all of it.
type Headers struct {
	// Fault says what is wrong with the frame. Fields of layers behind the fault are zero.
	Fault Fault

	Source, Destination MAC
	// Tags is how many VLAN tags the frame has, VLANs their numbers, the outer first.
	Tags  uint8
	VLANs [maxTags]uint16
	Type  uint16 // EtherType behind the tags, below 1536 a length

	ARP ARP // where Type is TypeARP

	// IP says that there is an IP header; Src, Dst, Protocol, TTL are its.
	IP       bool
	Src, Dst Addr
	Protocol uint8 // behind the extension headers
	TTL      uint8
	// Fragment says that the packet is a part of one, FragmentOffset where in it, in
	// bytes. Only the part at 0 has a header of the transport.
	Fragment       bool
	FragmentOffset uint16

	// Transport says that there is a whole header of TCP, UDP or ICMP.
	Transport        bool
	SrcPort, DstPort uint16 // of ICMP: type and code, and the identifier of an echo
	Flags            uint8  // of TCP, as all below
	Seq, Ack         uint32
	Window           uint16

	// Payload is where what the transport carries begins, in bytes from the start of
	// the frame, PayloadLen how many bytes it has by the lengths in the headers.
	Payload, PayloadLen int
}

// ARP is an ARP packet of Ethernet and IPv4.
type ARP struct {
	Op                   uint16 // 1 asks, 2 answers
	SenderMAC, TargetMAC MAC
	Sender, Target       Addr
}

// Decode reads the headers of a frame that is wire bytes long and begins with head:
// all of the frame, or as much as all its headers may take. One that is whole, to be
// cut into segments by somebody else, is as long as it is, whatever its IP header says.
func (h *Headers) Decode(head []byte, wire int, whole bool) {
	*h = Headers{}
	if wire < len(head) {
		head = head[:max(wire, 0)]
	}
	if len(head) < etherSize {
		h.Fault = ShortEthernet
		return
	}
	h.Destination, h.Source = MAC(head[0:6]), MAC(head[6:12])
	h.Type = binary.BigEndian.Uint16(head[12:])
	at := etherSize
	for h.Type == TypeVLAN || h.Type == TypeDouble {
		if h.Tags == maxTags {
			h.Fault = ManyTags
			return
		}
		if len(head) < at+tagSize {
			h.Fault = ShortTag
			return
		}
		h.VLANs[h.Tags] = binary.BigEndian.Uint16(head[at:]) & 0xfff
		h.Tags++
		h.Type = binary.BigEndian.Uint16(head[at+2:])
		at += tagSize
	}
	if h.Source.Multicast() {
		h.Fault = GroupSource
		return
	}
	switch h.Type {
	case TypeIPv4:
		h.ipv4(head, at, wire, whole)
	case TypeIPv6:
		h.ipv6(head, at, wire, whole)
	case TypeARP:
		h.arp(head[at:])
	}
}

func (h *Headers) arp(p []byte) {
	if len(p) < arpSize {
		h.Fault = ShortARP
		return
	}
	// Hardware Ethernet, protocol IPv4, their lengths.
	if binary.BigEndian.Uint64(p)>>16 != 0x0001_0800_0604 {
		h.Fault = OddARP
		return
	}
	a := &h.ARP
	a.Op = binary.BigEndian.Uint16(p[6:])
	a.SenderMAC, a.TargetMAC = MAC(p[8:14]), MAC(p[18:24])
	a.Sender.setIPv4(p[14:18])
	a.Target.setIPv4(p[24:28])
}

// short is the fault of a header that does not fit: cut off, or longer than what
// was to be looked at.
func short(head []byte, wire int, cut Fault) Fault {
	if wire > len(head) {
		return LongHeaders
	}
	return cut
}

func (h *Headers) ipv4(head []byte, at, wire int, whole bool) {
	if len(head) < at+ipv4Size {
		h.Fault = short(head, wire, ShortIP)
		return
	}
	p := head[at:]
	n := int(p[0]&15) * 4
	switch {
	case p[0]>>4 != 4:
		h.Fault = OddVersion
		return
	case n < ipv4Size:
		h.Fault = OddHeaderLength
		return
	case len(p) < n:
		h.Fault = short(head, wire, ShortIP)
		return
	}
	total := int(binary.BigEndian.Uint16(p[2:]))
	if whole {
		total = wire - at
	}
	if total < n || at+total > wire {
		h.Fault = OddLength
		return
	}
	if checksum(p[:n]) != 0xffff {
		h.Fault = OddChecksum
		return
	}
	h.IP, h.Protocol, h.TTL = true, p[9], p[8]
	h.Src.setIPv4(p[12:16])
	h.Dst.setIPv4(p[16:20])
	if n > ipv4Size && sourceRouted(p[ipv4Size:n]) {
		h.Fault = SourceRoute
		return
	}
	part := binary.BigEndian.Uint16(p[6:])
	h.Fragment, h.FragmentOffset = part&0x3fff != 0, part&0x1fff<<3
	h.transport(head, at+n, at+total, wire)
}

// checksum is the Internet checksum's sum over a header of whole words, 0xffff if
// the header has the right one.
func checksum(p []byte) uint16 {
	sum := uint64(0)
	for ; len(p) >= 4; p = p[4:] {
		sum += uint64(binary.BigEndian.Uint32(p))
	}
	sum = sum>>32 + sum&0xffffffff
	sum = sum>>16 + sum&0xffff
	sum = sum>>16 + sum&0xffff
	return uint16(sum>>16 + sum&0xffff)
}

// sourceRouted reports whether options have the packet go where its sender says
// (loose or strict source route).
func sourceRouted(options []byte) bool {
	for len(options) > 0 {
		switch kind := options[0]; {
		case kind == 0: // end
			return false
		case kind == 1: // no operation
			options = options[1:]
		case kind == 131 || kind == 137:
			return true
		case len(options) < 2 || options[1] < 2 || int(options[1]) > len(options):
			return false
		default:
			options = options[options[1]:]
		}
	}
	return false
}

// Extension headers of IPv6.
const (
	hopByHop    = 0
	routing     = 43
	fragment    = 44
	destination = 60
)

func (h *Headers) ipv6(head []byte, at, wire int, whole bool) {
	if len(head) < at+ipv6Size {
		h.Fault = short(head, wire, ShortIP)
		return
	}
	p := head[at:]
	if p[0]>>4 != 6 {
		h.Fault = OddVersion
		return
	}
	end := at + ipv6Size + int(binary.BigEndian.Uint16(p[4:]))
	if whole {
		end = wire
	}
	if end > wire {
		h.Fault = OddLength
		return
	}
	h.IP, h.TTL = true, p[7]
	h.Src, h.Dst = Addr(p[8:24]), Addr(p[24:40])
	next := p[6]
	at += ipv6Size
	for i := 0; ; i++ {
		if next != hopByHop && next != routing && next != fragment && next != destination {
			break
		}
		if i == maxExtensions || next == hopByHop && i > 0 {
			h.Fault = ManyExtensions
			return
		}
		n := 8
		if len(head) < at+n {
			h.Fault = short(head, wire, ShortExtension)
			return
		}
		if next != fragment {
			n += int(head[at+1]) * 8
		}
		if at+n > end {
			h.Fault = ShortExtension
			return
		}
		switch next {
		case routing:
			if head[at+2] == 0 { // type 0, RFC 5095
				h.Fault = SourceRoute
				return
			}
		case fragment:
			part := binary.BigEndian.Uint16(head[at+2:])
			h.Fragment, h.FragmentOffset = part&0xfff9 != 0, part&0xfff8
		}
		next = head[at]
		at += n
		if h.FragmentOffset != 0 {
			break // what follows is no header
		}
	}
	h.Protocol = next
	if at > len(head) {
		h.Fault = LongHeaders
		return
	}
	h.transport(head, at, end, wire)
}

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
	h.SrcPort, h.DstPort = uint16(kind), uint16(p[1])
	if echo && len(p) >= 6 {
		id := binary.BigEndian.Uint16(p[4:])
		h.SrcPort, h.DstPort = id, id
	}
}
