package packet

import "encoding/binary"

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
	if Checksum(p[:n]) != 0 {
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
	if h.Fragment, h.FragmentOffset = part&0x3fff != 0, part&0x1fff<<3; h.Fragment {
		h.FragmentID = uint32(binary.BigEndian.Uint16(p[4:]))
	}
	h.transport(head, at+n, at+total, wire)
}

// Checksum is the Internet checksum (RFC 1071) of p: 0 of what has the right one in it.
func Checksum(p []byte) uint16 {
	sum := uint64(0)
	for ; len(p) >= 4; p = p[4:] {
		sum += uint64(binary.BigEndian.Uint32(p))
	}
	var last [4]byte
	copy(last[:], p)
	sum += uint64(binary.BigEndian.Uint32(last[:]))
	sum = sum>>32 + sum&0xffffffff
	sum = sum>>16 + sum&0xffff
	sum = sum>>16 + sum&0xffff
	return ^uint16(sum>>16 + sum&0xffff)
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
	if h.Src.IsIPv4() || h.Dst.IsIPv4() {
		h.Fault = MappedAddress
		return
	}
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
			if h.Fragment, h.FragmentOffset = part&0xfff9 != 0, part&0xfff8; h.Fragment {
				h.FragmentID = binary.BigEndian.Uint32(head[at+4:])
			}
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
