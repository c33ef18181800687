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
// the lower end. Of ICMP each echo is a flow, and all else together.
func KeyOf(h *packet.Headers, vlan uint16) (k Key, forward bool) {
	src, dst := h.SrcPort, h.DstPort
	icmp := h.Protocol == packet.ICMP || h.Protocol == packet.ICMPv6
	if icmp && !h.Echo() && !h.EchoReply() {
		src, dst = 0, 0 // type and code are the message's, not the end's
	}
	binary.BigEndian.PutUint16(k[0:], vlan)
	k[keyProto] = h.Protocol
	order := bytes.Compare(h.Src[:], h.Dst[:])
	forward = order < 0 || order == 0 && src <= dst
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
	// ID is a number that no other flow of the table has or had, from 1 on.
	ID               uint64
	Key              Key
	VLAN             uint16
	Protocol         uint8
	State            State
	Src, Dst         packet.Addr
	SrcPort, DstPort uint16
	// Begun and Last are the times of the first and the last frame, in nanoseconds of
	// the clock that the table's user has.
	Begun, Last int64
	// Bytes are of whole frames, Packets as many as there would be on a wire.
	Bytes, Packets [2]uint64
	// Data is what the table's user knows of it.
	Data T

	part    *Part[T]
	owner   int32 // the port that opened it
	kept    bool
	fins    uint8 // which ends have sent a FIN
	swapped bool  // the source is the higher end of the key

	at, bucket int32 // its own index and its bucket's
	next       int32 // in the bucket, or in the list of free ones
	newer, old int32 // in its list
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
func (f *Flow[T]) begin(h *packet.Headers, k *Key, vlan uint16, forward bool, port int32, now int64) {
	*f = Flow[T]{
		ID: f.part.table.next.Add(1), Key: *k, VLAN: vlan, Protocol: h.Protocol, Begun: now, Last: now,
		part: f.part, owner: port, at: f.at, bucket: f.bucket, next: f.next,
	}
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
func (f *Flow[T]) Count(direction, size, packets int, now int64) {
	f.part.frames++
	f.part.bytes += uint64(size)
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

// Lock locks the flow's part of the table if it is still the flow that had a number, and
// reports whether it is.
func (f *Flow[T]) Lock(id uint64) bool {
	f.part.Lock()
	if f.ID == id {
		return true
	}
	f.part.Unlock()
	return false
}

// Unlock unlocks the flow's part of the table.
func (f *Flow[T]) Unlock() { f.part.Unlock() }

// Alive reports whether the flow has not been quiet for so long that it is over.
func (f *Flow[T]) Alive(now int64) bool { return now-f.Last <= f.patience() }

// patience is how long the flow may be quiet before it is over, in nanoseconds.
func (f *Flow[T]) patience() int64 {
	const second = 1_000_000_000
	switch {
	case f.kept:
		return 600 * second
	case f.State.Over():
		return 5 * second // what was on its way
	case f.State == Opening, f.State == Answered:
		return 75 * second // Linux gives up a connect after a bit more
	case f.Protocol == packet.TCP:
		return 7440 * second // RFC 5382: at least two hours and four minutes
	case f.Protocol == packet.UDP:
		return 120 * second // RFC 4787: at least two minutes
	}
	return 60 * second // RFC 5508, ICMP queries
}
