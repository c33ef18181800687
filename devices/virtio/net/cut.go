package net

import (
	"encoding/binary"

	"warder/devices/virtio/virtq"
)

// Flags in byte 13 of a TCP header.
const (
	tcpFIN = 0x01
	tcpPSH = 0x08
	tcpCWR = 0x80
)

// cut delivers the segments of f from number part on, and says how far it came.
// What is in f's head was checked when it was sent.
func (r *receiver) cut(b virtq.Batch, f *Frame, part int, takes Offloads) (next int, err error) {
	l, ok := parse(f.Head)
	size, header := int(f.GSOSize), int(f.HdrLen)
	if !ok || size == 0 || header != l.end {
		return part, errNoBuffer // not one that SetHeader let through
	}
	payload := f.Len - header
	for ; part*size < payload; part++ {
		off := part * size
		n := min(size, payload-off)
		head := r.scratch[:copy(r.scratch[:], f.Head[:header])]
		l.segment(head, part, off, n, off+n == payload)
		body := f.from(header+off, n)
		o := Offload{}
		if takes&Csum != 0 {
			o = Offload{NeedsCsum: true, CsumStart: f.CsumStart, CsumOffset: f.CsumOffset}
		} else {
			putSum(head, l.l4, int(f.CsumStart+f.CsumOffset), body)
		}
		if err := r.write(b, o, body.after(head)); err != nil {
			return part, err
		}
		r.stats.cut.Add(1)
	}
	return part, nil
}

// segment turns the headers of a frame that was cut into those of its segment number
// i, which has the n bytes at off of its payload. The checksum is that of the pseudo
// header.
func (l layers) segment(head []byte, i, off, n int, last bool) {
	length := len(head) - l.l4 + n // of the IP packet's content, but for extensions
	ip := head[l.l3:]
	if l.v6 {
		binary.BigEndian.PutUint16(ip[4:], uint16(len(ip)-ipv6Header+n))
	} else {
		binary.BigEndian.PutUint16(ip[2:], uint16(len(ip)+n))
		binary.BigEndian.PutUint16(ip[4:], binary.BigEndian.Uint16(ip[4:])+uint16(i))
		binary.BigEndian.PutUint16(ip[10:], 0)
		binary.BigEndian.PutUint16(ip[10:], ^fold(add(0, ip[:l.l4-l.l3])))
	}
	field := head[l.l4+udpCsum:]
	if l.proto == protoTCP {
		field = head[l.l4+tcpCsum:]
		tcp := head[l.l4:]
		binary.BigEndian.PutUint32(tcp[4:], binary.BigEndian.Uint32(tcp[4:])+uint32(off))
		if !last {
			tcp[13] &^= tcpFIN | tcpPSH
		}
		if i > 0 {
			tcp[13] &^= tcpCWR
		}
	} else {
		binary.BigEndian.PutUint16(head[l.l4+4:], uint16(length))
	}
	binary.BigEndian.PutUint16(field, fold(l.pseudo(head, length)))
}

// pseudo is the sum of the pseudo header of TCP or UDP with length bytes.
func (l layers) pseudo(head []byte, length int) uint64 {
	sum := uint64(l.proto) + uint64(length)
	if l.v6 {
		return add(sum, head[l.l3+8:l.l3+40])
	}
	return add(sum, head[l.l3+12:l.l3+20])
}

// summed is f's head with the checksum filled in.
func (r *receiver) summed(f *Frame) []byte {
	head := r.scratch[:copy(r.scratch[:], f.Head)]
	putSum(head, int(f.CsumStart), int(f.CsumStart+f.CsumOffset), f.from(len(head), f.Len-len(head)))
	return head
}

// putSum sums head from start on and all of body, and puts the checksum at field,
// where the sum of the pseudo header is. It is never 0, which UDP takes for none,
// and which means the same as what stands in its place.
func putSum(head []byte, start, field int, body cursor) {
	s := summer{}
	s.add(head[start:])
	for !body.end() {
		s.add(body.next(body.left))
	}
	sum := ^fold(s.sum)
	if sum == 0 {
		sum = 0xffff
	}
	binary.BigEndian.PutUint16(head[field:], sum)
}
