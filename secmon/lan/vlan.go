package lan

import (
	"encoding/binary"

	"warder/devices/virtio/net"
	"warder/secmon/lan/packet"
)

const (
	tagSize = 4

	// MaxVLAN is the highest number of a VLAN; the least is 1.
	MaxVLAN = 4094
	vlanOf  = 0xfff // in a tag
)

func tagged(head []byte) bool {
	if len(head) < etherHeader {
		return false
	}
	switch binary.BigEndian.Uint16(head[etherType:]) {
	case packet.TypeVLAN, packet.TypeDouble, packet.TypeOld:
		return true
	}
	return false
}

// untag takes the tag off a frame that has one, and returns it.
func untag(f *net.Frame) (tag uint16, why Reason) {
	head := f.Head
	if len(head) < etherHeader+tagSize {
		return 0, Malformed
	}
	if binary.BigEndian.Uint16(head[etherType:]) != packet.TypeVLAN || tagged(head[tagSize:]) {
		return 0, DoubleTag
	}
	if f.NeedsCsum && f.CsumStart < etherHeader+tagSize {
		return 0, Malformed
	}
	tag = binary.BigEndian.Uint16(head[etherHeader:])
	copy(head[tagSize:], head[:etherType])
	f.Head = head[tagSize:]
	f.Len -= tagSize
	if f.NeedsCsum {
		f.CsumStart -= tagSize
	}
	if f.GSO != net.NoGSO {
		f.HdrLen -= tagSize
	}
	return tag, None
}

// tag makes t the frame f with a VLAN tag. It shares f's body, and is good for as long
// as f is. It fails for a frame whose headers leave no room for a tag.
func tag(t, f *net.Frame, vlan uint16) bool {
	if len(f.Head) < etherHeader || f.NeedsCsum && int(f.CsumStart)+int(f.CsumOffset)+2+tagSize > net.HeadSize ||
		f.GSO != net.NoGSO && int(f.HdrLen)+tagSize > net.HeadSize {
		return false
	}
	buf := t.Head
	if cap(buf) < net.HeadSize+tagSize {
		buf = make([]byte, 0, net.HeadSize+tagSize)
	}
	buf = append(buf[:0], f.Head[:etherType]...)
	buf = binary.BigEndian.AppendUint16(buf, packet.TypeVLAN)
	buf = binary.BigEndian.AppendUint16(buf, vlan)
	buf = append(buf, f.Head[etherType:]...)
	t.Offload, t.Head, t.Body, t.Len, t.Queue = f.Offload, buf, f.Body, f.Len+tagSize, f.Queue
	if t.NeedsCsum {
		t.CsumStart += tagSize
	}
	if t.GSO != net.NoGSO {
		t.HdrLen += tagSize
	}
	return true
}
