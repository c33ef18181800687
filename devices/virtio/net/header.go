package net

import (
	"encoding/binary"
	"errors"
)

// HeaderSize is the length in bytes of the header before each frame in a queue
// (section 5.1.6, struct virtio_net_hdr) and before each frame of a TAP.
const HeaderSize = 12

// Offload is what a frame's sender left to be done by whoever needs it done. The
// zero Offload is a frame as it stands on a wire.
type Offload struct {
	// NeedsCsum says that a checksum is missing: the Internet checksum of all from
	// CsumStart on, to be stored CsumOffset bytes behind CsumStart, where the sum of
	// the pseudo header is.
	NeedsCsum             bool
	CsumStart, CsumOffset uint16
	// CsumValid says that somebody trusted has checked the checksum.
	CsumValid bool

	// GSO says that the payload has to be cut into segments of GSOSize bytes, each
	// with a copy of the first HdrLen bytes of the frame before it.
	GSO             GSO
	ECN             bool // of TCP that uses ECN: only the first segment has CWR set
	GSOSize, HdrLen uint16
}

// GSO is how a payload is to be cut.
type GSO uint8

// Kinds of GSO, as VIRTIO_NET_HDR_GSO_* number them. IP fragments (UFO) are not
// among them: Linux has given them up.
const (
	NoGSO GSO = 0
	TCPv4 GSO = 1
	TCPv6 GSO = 4
	UDP   GSO = 5 // a UDP datagram for each segment, "USO"
)

// Offloads is a set of what may be left to be done.
type Offloads uint8

// What a sender may leave to its receiver.
const (
	Csum   Offloads = 1 << iota // a checksum
	TSO4                        // cutting of TCP over IPv4; needs Csum, as all below
	TSO6                        // over IPv6
	TSOECN                      // with ECN
	USO4                        // cutting of UDP over IPv4
	USO6                        // over IPv6

	AllOffloads = Csum | TSO4 | TSO6 | TSOECN | USO4 | USO6
)

// whole is o without what needs another bit that is not there.
func (o Offloads) whole() Offloads {
	if o&Csum == 0 {
		return 0
	}
	return o
}

// Bits and fields of the header.
const (
	flagNeedsCsum = 1
	flagDataValid = 2

	gsoECN = 0x80

	offFlags      = 0
	offGSOType    = 1
	offHdrLen     = 2
	offGSOSize    = 4
	offCsumStart  = 6
	offCsumOffset = 8
	offNumBuffers = 10
)

// Why a frame is dropped.
var (
	errLength  = errors.New("net: frame of impossible length")
	errOffload = errors.New("net: frame leaves to be done what was not agreed on")
	errCsum    = errors.New("net: checksum outside the frame's headers")
	errGSO     = errors.New("net: frame is not what its header says is to be cut")
)

// minSegment is the least payload of a segment that is cut for somebody, in bytes:
// the least that Linux's TCP sends. It bounds what a frame is cut into.
const minSegment = 48

// SetHeader reads the header h, little-endian, into f.Offload. It fails if that does
// not fit the frame, which has to be filled by then: if it asks for more than
// allowed, for a checksum outside the headers, or for cutting what is no such frame,
// or into segments longer than an MTU of mtu bytes lets through. HdrLen is not
// believed but found in the frame.
func (f *Frame) SetHeader(h *[HeaderSize]byte, allowed Offloads, mtu int) error {
	f.Offload = Offload{}
	limit := etherHeader + maxTags + mtu
	if f.Len < etherHeader || f.Len > MaxFrame {
		return errLength
	}
	// Flags that are not known are to be ignored, section 5.1.6.2.2.
	if h[offFlags]&flagNeedsCsum != 0 {
		f.NeedsCsum = true
		f.CsumStart = binary.LittleEndian.Uint16(h[offCsumStart:])
		f.CsumOffset = binary.LittleEndian.Uint16(h[offCsumOffset:])
		if allowed&Csum == 0 {
			return errOffload
		}
		if f.CsumStart < etherHeader || int(f.CsumStart)+int(f.CsumOffset)+2 > len(f.Head) {
			return errCsum
		}
	}
	if h[offGSOType] == 0 {
		if f.Len > limit {
			return errLength
		}
		return nil
	}
	f.GSO = GSO(h[offGSOType] &^ gsoECN)
	f.ECN = h[offGSOType]&gsoECN != 0
	f.GSOSize = binary.LittleEndian.Uint16(h[offGSOSize:])
	if err := f.checkGSO(allowed); err != nil {
		return err
	}
	// One segment or less is no work left.
	if f.Len <= int(f.HdrLen)+int(f.GSOSize) {
		f.GSO, f.ECN, f.GSOSize, f.HdrLen = NoGSO, false, 0, 0
		if f.Len > limit {
			return errLength
		}
		return nil
	}
	if int(f.HdrLen)+int(f.GSOSize) > limit {
		return errLength
	}
	return nil
}

// checkGSO compares what is to be cut with the frame and sets HdrLen.
func (f *Frame) checkGSO(allowed Offloads) error {
	l, ok := parse(f.Head)
	if !ok || l.fragment || !f.NeedsCsum || int(f.CsumStart) != l.l4 || f.GSOSize < minSegment {
		return errGSO
	}
	var need Offloads
	var field uint16 // of the checksum
	switch {
	case f.GSO == TCPv4 && !l.v6 && l.proto == protoTCP:
		need, field = TSO4, tcpCsum
	case f.GSO == TCPv6 && l.v6 && l.proto == protoTCP:
		need, field = TSO6, tcpCsum
	case f.GSO == UDP && !l.v6 && l.proto == protoUDP && !f.ECN:
		need, field = USO4, udpCsum
	case f.GSO == UDP && l.v6 && l.proto == protoUDP && !f.ECN:
		need, field = USO6, udpCsum
	default:
		return errGSO
	}
	if f.ECN {
		need |= TSOECN
	}
	if need&^allowed != 0 {
		return errOffload
	}
	if f.CsumOffset != field || l.end > f.Len {
		return errGSO
	}
	f.HdrLen = uint16(l.end)
	return nil
}

// needs is what a receiver has to take to get the frame as it is.
func (f *Frame) needs() (need Offloads) {
	if f.NeedsCsum {
		need |= Csum
	}
	switch f.GSO {
	case TCPv4:
		need |= TSO4
	case TCPv6:
		need |= TSO6
	case UDP:
		// Which of the two is in the frame, whose headers were checked.
		need |= USO4
		if l, _ := parse(f.Head); l.v6 {
			need = need&^USO4 | USO6
		}
	}
	if f.ECN {
		need |= TSOECN
	}
	return need
}

// Header is o as it stands before a frame in buffers receive buffers.
func (o *Offload) Header(buffers int) (h [HeaderSize]byte) {
	if o.NeedsCsum {
		h[offFlags] = flagNeedsCsum
		binary.LittleEndian.PutUint16(h[offCsumStart:], o.CsumStart)
		binary.LittleEndian.PutUint16(h[offCsumOffset:], o.CsumOffset)
	} else if o.CsumValid {
		h[offFlags] = flagDataValid
	}
	if o.GSO != NoGSO {
		h[offGSOType] = uint8(o.GSO)
		if o.ECN {
			h[offGSOType] |= gsoECN
		}
		binary.LittleEndian.PutUint16(h[offGSOSize:], o.GSOSize)
		binary.LittleEndian.PutUint16(h[offHdrLen:], o.HdrLen)
	}
	binary.LittleEndian.PutUint16(h[offNumBuffers:], uint16(buffers))
	return h
}
