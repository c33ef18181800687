package flow

import (
	"bytes"
	"encoding/binary"

	"warder/secmon/lan/packet"
)

// Key names a conversation: the VLAN, IP's protocol, both ends in an order that does
// not depend on who speaks.
type Key [40]byte

// Layout of a Key.
const (
	keyLow   = 4  // address and port of the end that is lower
	keyHigh  = 22 // of the other
	endSize  = 18
	keyProto = 2
)

// KeyOf is the key of a frame with an IP header. Forward says that its source is
// the lower end.
func KeyOf(h *packet.Headers, vlan uint16) (k Key, forward bool) {
	src, dst := h.SrcPort, h.DstPort
	binary.BigEndian.PutUint16(k[0:], vlan)
	k[keyProto] = h.Protocol
	order := bytes.Compare(h.Src[:], h.Dst[:])
	forward = order < 0 || order == 0 && src <= dst
	if h.Protocol == packet.ICMP || h.Protocol == packet.ICMPv6 {
		// Type and code are the message's, not the end's.
		forward = order <= 0
	}
	low, high := k[keyLow:keyLow+endSize], k[keyHigh:keyHigh+endSize]
	if !forward {
		low, high = high, low
	}
	copy(low, h.Src[:])
	copy(high, h.Dst[:])
	binary.BigEndian.PutUint16(low[16:], src)
	binary.BigEndian.PutUint16(high[16:], dst)
	return k, forward
}

// State is how far a flow has got.
type State uint8

const (
	Open        State = iota // of a protocol without states
	Opening                  // a SYN
	Answered                 // a SYN and its answer
	Established              // or seen from its middle
	Closed                   // a FIN from both ends
	Reset
)

func (s State) String() string {
	return [...]string{"open", "opening", "answered", "established", "closed", "reset"}[s]
}

// Over reports whether nothing more is to be expected.
func (s State) Over() bool { return s >= Closed }

// Flow is a conversation. Its ends are the source, which opened it, and the
// destination; index 0 of an array is the source's, 1 the destination's.
type Flow[T any] struct {
	Key              Key
	VLAN             uint16
	Protocol         uint8
	State            State
	Src, Dst         packet.Addr
	SrcPort, DstPort uint16
	// Ports are those of the switch that frames of each end came in by, -1 while the
	// end has said nothing.
	Ports [2]int32
	// Begun and Last are the times of the first and the last frame, nanoseconds since 1970.
	Begun, Last int64
	// Bytes are of whole frames, Packets as many as there would be on a wire.
	Bytes, Packets [2]uint64
	// Data is what the table's user knows of it.
	Data T

	owner   int32 // the port that opened it
	fins    uint8 // which ends have sent a FIN
	swapped bool  // the source is the higher end of the key

	next       int32 // in the bucket, or in the list of free ones
	newer, old int32 // among those of the owner
}

// Direction is 0 for a frame from the flow's source, 1 for one from its
// destination; forward is what KeyOf said of the frame.
func (f *Flow[T]) Direction(forward bool) int {
	if forward == f.swapped {
		return 1
	}
	return 0
}

// begin makes f the flow of a first frame.
func (f *Flow[T]) begin(h *packet.Headers, k Key, vlan uint16, forward bool, port int32, now int64) {
	*f = Flow[T]{Key: k, VLAN: vlan, Protocol: h.Protocol, Ports: [2]int32{-1, -1}, Begun: now, owner: port}
	f.Src, f.Dst, f.SrcPort, f.DstPort = h.Src, h.Dst, h.SrcPort, h.DstPort
	f.swapped = !forward
	// An answer as the first frame: the flow is older than the table, or the
	// question got lost.
	if h.Protocol == packet.TCP && h.Flags&(packet.SYN|packet.ACK) == packet.SYN|packet.ACK {
		f.Src, f.Dst, f.SrcPort, f.DstPort = f.Dst, f.Src, f.DstPort, f.SrcPort
		f.swapped = !f.swapped
	}
	if h.Protocol == packet.TCP {
		f.State = Opening
		if h.Flags&packet.SYN == 0 {
			f.State = Established
		}
	}
}

// Count adds a frame of size bytes that is packets on a wire.
func (f *Flow[T]) Count(direction int, port int32, size, packets int, now int64) {
	f.Ports[direction] = port
	f.Bytes[direction] += uint64(size)
	f.Packets[direction] += uint64(packets)
	f.Last = max(f.Last, now)
}

// Step is what the flags of a segment do to the state.
func (f *Flow[T]) Step(direction int, flags uint8) {
	switch {
	case f.State.Over():
	case flags&packet.RST != 0:
		f.State = Reset
	case flags&packet.SYN != 0 && direction == 1 && f.State == Opening:
		f.State = Answered
	case flags&packet.FIN != 0:
		f.fins |= 1 << direction
		if f.fins == 3 {
			f.State = Closed
		} else if f.State == Answered {
			f.State = Established
		}
	case direction == 0 && f.State == Answered && flags&packet.ACK != 0:
		f.State = Established
	}
}

// Idle is how long a flow in that state may be quiet before it is over, in
// nanoseconds.
func Idle(protocol uint8, s State) int64 {
	const second = 1_000_000_000
	switch {
	case s.Over():
		return 5 * second // what was on its way
	case s == Opening, s == Answered:
		return 75 * second // Linux gives up a connect after a bit more
	case protocol == packet.TCP:
		return 7440 * second // RFC 5382: at least two hours and four minutes
	case protocol == packet.UDP:
		return 120 * second // RFC 4787: at least two minutes
	}
	return 60 * second // RFC 5508, ICMP queries
}
