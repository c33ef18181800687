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

// IsIPv4 reports whether it is an address of IPv4.
func (a *Addr) IsIPv4() bool { return [12]byte(a[:12]) == [12]byte{10: 0xff, 11: 0xff} }

// IsMulticast reports whether it is that of a group.
func (a *Addr) IsMulticast() bool { return a[0] == 0xff || a.IsIPv4() && a[12]>>4 == 14 }

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
	TypeOld    = 0x9100 // of double tags before 802.1ad
	TypeIPv6   = 0x86dd
)

// Protocols of IP.
const (
	ICMP   = 1
	TCP    = 6
	UDP    = 17
	ICMPv6 = 58
)

// Operations of ARP.
const (
	ARPRequest = 1
	ARPReply   = 2
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
	FragmentID     uint32 // the same for all parts of a packet

	// Transport says that there is a whole header of TCP, UDP or ICMP.
	Transport        bool
	SrcPort, DstPort uint16 // of ICMP: type and code, and the identifier of an echo
	ICMPType         uint8
	Flags            uint8 // of TCP, as all below
	Seq, Ack         uint32
	Window           uint16

	// Payload is where what the transport carries begins, in bytes from the start of
	// the frame, PayloadLen how many bytes it has by the lengths in the headers.
	Payload, PayloadLen int
}

// ARP is an ARP packet of Ethernet and IPv4.
type ARP struct {
	Op                   uint16 // ARPRequest or ARPReply
	SenderMAC, TargetMAC MAC
	Sender, Target       Addr
}

// Later reports whether the packet is a fragment that does not show the transport.
func (h *Headers) Later() bool { return h.FragmentOffset != 0 }

// Echo reports whether it is a ping.
func (h *Headers) Echo() bool {
	return h.Transport && (h.Protocol == ICMP && h.ICMPType == 8 || h.Protocol == ICMPv6 && h.ICMPType == 128)
}

// EchoReply reports whether it is the answer to a ping.
func (h *Headers) EchoReply() bool {
	return h.Transport && (h.Protocol == ICMP && h.ICMPType == 0 || h.Protocol == ICMPv6 && h.ICMPType == 129)
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
	for h.Type == TypeVLAN || h.Type == TypeDouble || h.Type == TypeOld {
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
	if a.Op != ARPRequest && a.Op != ARPReply {
		h.Fault = OddARP
		return
	}
	a.SenderMAC, a.TargetMAC = MAC(p[8:14]), MAC(p[18:24])
	a.Sender.setIPv4(p[14:18])
	a.Target.setIPv4(p[24:28])
}
