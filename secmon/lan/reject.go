package lan

import (
	"encoding/binary"

	"warder/devices/virtio/net"
	"warder/secmon/lan/packet"
)

const (
	// rejections is how much a sender is told a second of what it may not, in bytes:
	// some hundred messages.
	rejections = 16 << 10
	// quotedMax is how much of a packet is quoted.
	quotedMax = 128

	unreachable   = 3 // ICMP (RFC 792), of which 13 is prohibited (RFC 1812, 5.2.7.1)
	prohibited    = 13
	unreachable6  = 1 // ICMPv6 (RFC 4443, 3.1), of which 1 is prohibited
	prohibited6   = 1
	rejectionHops = 64
)

// reject tells the frame's sender at once that what it begins is not declared, in the
// name of the one that it is for. Its program need not wait until it gives up.
func (x *transit) reject() {
	p, s := x.from, &x.seen[0]
	h := &s.Headers
	begins := h.Protocol == packet.UDP || opens(h)
	if s.Refused != Policy || s.To == nil || !begins || h.Fragment || p.cfg.Uplink || p.cfg.Trusted || !p.rejected.pass(quotedMax, s.Time) {
		return
	}
	b := append(make([]byte, 0, net.HeadSize), x.frame.Head[6:12]...)
	b = append(append(b, x.frame.Head[:6]...), x.frame.Head[etherType:etherHeader]...)
	quote := x.frame.Head[etherHeader:min(etherHeader+quotedMax, len(x.frame.Head))]
	from, to := h.Dst.IP().AsSlice(), h.Src.IP().AsSlice()
	if h.Type == packet.TypeIPv4 {
		ip := []byte{0x45, 0, 0, 0, 0, 0, 0, 0, rejectionHops, packet.ICMP, 0, 0}
		binary.BigEndian.PutUint16(ip[2:], uint16(ipv4Header+icmpHeader+len(quote)))
		ip = append(append(ip, from...), to...)
		binary.BigEndian.PutUint16(ip[10:], packet.Checksum(ip))
		b = append(b, ip...)
	} else {
		b = append(b, 0x60, 0, 0, 0)
		b = binary.BigEndian.AppendUint16(b, uint16(icmpHeader+len(quote)))
		b = append(append(append(b, packet.ICMPv6, rejectionHops), from...), to...)
	}
	message := append([]byte{unreachable, prohibited, 0, 0, 0, 0, 0, 0}, quote...)
	if h.Type == packet.TypeIPv6 {
		message[0], message[1] = unreachable6, prohibited6
		pseudo := binary.BigEndian.AppendUint32(append(append([]byte{}, from...), to...), uint32(len(message)))
		binary.BigEndian.PutUint16(message[2:], packet.Checksum(append(append(pseudo, 0, 0, 0, packet.ICMPv6), message...)))
	} else {
		binary.BigEndian.PutUint16(message[2:], packet.Checksum(message))
	}
	f := new(net.Frame)
	f.Fill(append(b, message...))
	if p.trunk[s.VLAN] {
		tagged := new(net.Frame)
		if !tag(tagged, f, s.VLAN) {
			return
		}
		f = tagged
	}
	if r := p.receiver.Load(); r != nil {
		p.lines[(*r).Queue(f)].tell(f)
	}
}
