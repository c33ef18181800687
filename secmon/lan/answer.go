package lan

import (
	"encoding/binary"

	"warder/devices/virtio/net"
	"warder/secmon/lan/packet"
)

// Flags of a neighbour advertisement (RFC 4861, 4.4): it was asked for, and holds in place
// of what was known.
const (
	solicited = 0x60
	unasked   = 0x20 // for who has no address yet
)

// allNodes are all of a link.
var allNodes = packet.Addr{0: 0xff, 1: 2, 15: 1}

// discoveryHops is the hop limit of neighbour discovery: no router has passed it on.
const discoveryHops = 255

// answer answers a question for an address in the name of the one that has it, who sleeps.
// Who asked would not find it before it is up, and give up long before that.
func (x *transit) answer(who packet.Addr) {
	p, s := x.from, &x.seen[0]
	if !p.told.pass(quotedMax, s.Time) {
		return
	}
	h, mac := &s.Headers, s.To.cfg.MAC
	asker := x.frame.Head[6:12]
	b := append(make([]byte, 0, net.HeadSize), asker...)
	b = append(b, mac[:]...)
	if h.Type == packet.TypeARP {
		b = binary.BigEndian.AppendUint16(b, packet.TypeARP)
		b = append(b, 0, 1, 8, 0, 6, 4, 0, packet.ARPReply)
		b = append(append(b, mac[:]...), who.IP().AsSlice()...)
		b = append(append(b, h.ARP.SenderMAC[:]...), h.ARP.Sender.IP().AsSlice()...)
	} else {
		to, flags := h.Src, byte(solicited)
		if to == nobody6 {
			to, flags = allNodes, unasked
		}
		message := append([]byte{neighbourAdvert, 0, 0, 0, flags, 0, 0, 0}, who[:]...)
		message = append(append(message, targetLinkOption, 1), mac[:]...)
		b = binary.BigEndian.AppendUint16(b, packet.TypeIPv6)
		b = appendICMPv6(b, who, to, discoveryHops, message)
	}
	f := new(net.Frame)
	f.Fill(b)
	p.tell(s.VLAN, f)
}

// appendICMPv6 appends a packet with a message, whose checksum it makes.
func appendICMPv6(b []byte, from, to packet.Addr, hops byte, message []byte) []byte {
	pseudo := append(append([]byte{}, from[:]...), to[:]...)
	pseudo = binary.BigEndian.AppendUint32(pseudo, uint32(len(message)))
	pseudo = append(append(pseudo, 0, 0, 0, packet.ICMPv6), message...)
	binary.BigEndian.PutUint16(message[2:], packet.Checksum(pseudo))
	b = append(b, 0x60, 0, 0, 0)
	b = binary.BigEndian.AppendUint16(b, uint16(len(message)))
	b = append(append(append(b, packet.ICMPv6, hops), from[:]...), to[:]...)
	return append(b, message...)
}
