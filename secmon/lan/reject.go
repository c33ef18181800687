package lan

import (
	"encoding/binary"

	"warder/devices/virtio/net"
	"warder/secmon/lan/packet"
)

const (
	// tellings is how much the switch says a second to one port of its own, in bytes:
	// some hundred messages.
	tellings = 16 << 10
	// quotedMax is how much of a packet is quoted.
	quotedMax = 128

	unreachable  = 3 // ICMP (RFC 792), of which 13 is prohibited (RFC 1812, 5.2.7.1)
	prohibited   = 13
	unreachable6 = 1 // ICMPv6 (RFC 4443, 3.1), of which 1 is prohibited
	prohibited6  = 1

	unreachableHost  = 1 // of unreachable: it cannot be reached
	unreachableHost6 = 3
	closedPort       = 3 // of unreachable: nobody is at the port
	closedPort6      = 4
	rejectionHops    = 64
)

// reject tells the frame's sender at once that what it begins is not declared, in the
// name of the one that it is for. Its program need not wait until it gives up.
func (x *transit) reject() {
	if x.seen[0].Refused == Policy {
		x.notify(prohibited, prohibited6)
	}
}

// notify tells the frame's sender, if it begins something, why that cannot be: by a code of
// ICMP's unreachable, or of ICMPv6's.
func (x *transit) notify(code, code6 byte) {
	p, s := x.from, &x.seen[0]
	h := &s.Headers
	begins := h.Protocol == packet.UDP || opens(h)
	if s.To == nil || !begins || h.Fragment || p.cfg.Uplink || p.cfg.Trusted || !p.told.pass(quotedMax, p.sw.now()) {
		return
	}
	b := append(make([]byte, 0, net.HeadSize), x.frame.Head[6:12]...)
	b = append(append(b, x.frame.Head[:6]...), x.frame.Head[etherType:etherHeader]...)
	quote := x.frame.Head[etherHeader:min(etherHeader+quotedMax, len(x.frame.Head))]
	if h.Type == packet.TypeIPv4 {
		message := append([]byte{unreachable, code, 0, 0, 0, 0, 0, 0}, quote...)
		binary.BigEndian.PutUint16(message[2:], packet.Checksum(message))
		ip := []byte{0x45, 0, 0, 0, 0, 0, 0, 0, rejectionHops, packet.ICMP, 0, 0}
		binary.BigEndian.PutUint16(ip[2:], uint16(ipv4Header+len(message)))
		ip = append(append(ip, h.Dst.IP().AsSlice()...), h.Src.IP().AsSlice()...)
		binary.BigEndian.PutUint16(ip[10:], packet.Checksum(ip))
		b = append(append(b, ip...), message...)
	} else {
		b = appendICMPv6(b, h.Dst, h.Src, rejectionHops, append([]byte{unreachable6, code6, 0, 0, 0, 0, 0, 0}, quote...))
	}
	f := new(net.Frame)
	f.Fill(b)
	p.tell(s.VLAN, f)
}
