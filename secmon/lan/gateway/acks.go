package gateway

import (
	"hash/maphash"
	"sync"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"

	vnet "warder/devices/virtio/net"
)

const (
	// ackTime is for how long an acknowledgement is kept back at least, at most for
	// twice that: a program that is near has answered by then.
	ackTime = time.Millisecond
	// ackSlots is for how many connections at a time.
	ackSlots = 256
)

// acks keeps acknowledgements back for a moment, as TCP does (RFC 1122, 4.2.3.2) and the
// stack does not: most are followed by an answer that acknowledges the same, and each that is
// sent is an interrupt of its guest. Only such of less than a segment are kept, and never two of one
// connection: what acknowledges more, or again, or nothing new, is waited for.
type acks struct {
	send  func(*vnet.Frame)
	small uint32 // bytes that are a segment
	seed  maphash.Seed

	mu    sync.Mutex
	slots [ackSlots]ackSlot
	ticks bool // tick is going to be called
}

// ackSlot is of the last connection among those that share it.
type ackSlot struct {
	id    stack.TransportEndpointID
	acked uint32      // by its last segment, kept or sent
	kept  *vnet.Frame // nil if none is
	old   bool        // a tick has seen it
}

func newAcks(small int, send func(*vnet.Frame)) *acks {
	return &acks{send: send, small: uint32(small), seed: maphash.MakeSeed()}
}

// pass sends f, which is the stack's pkt, or keeps it for a while.
func (a *acks) pass(pkt *stack.PacketBuffer, f *vnet.Frame) {
	s := header.TCP(pkt.TransportHeader().Slice())
	if pkt.TransportProtocolNumber != header.TCPProtocolNumber || len(s) < header.TCPMinimumSize {
		a.send(f)
		return
	}
	net := pkt.Network()
	id := stack.TransportEndpointID{LocalPort: s.SourcePort(), LocalAddress: net.SourceAddress(), RemotePort: s.DestinationPort(), RemoteAddress: net.DestinationAddress()}
	keep := s.Flags() == header.TCPFlagAck && pkt.Data().Size() == 0 && len(s.ParsedOptions().SACKBlocks) == 0
	other, sent := a.take(id, s.AckNumber(), keep, f)
	if other != nil {
		a.send(other)
	}
	if sent {
		a.send(f)
	}
}

// take puts a segment in its slot. It returns what was kept there of another connection, and
// whether f is to be sent.
func (a *acks) take(id stack.TransportEndpointID, ack uint32, keep bool, f *vnet.Frame) (other *vnet.Frame, send bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	s := &a.slots[maphash.Comparable(a.seed, id)%ackSlots]
	if s.id != id {
		other = s.kept
		*s = ackSlot{id: id, acked: ack}
		return other, true
	}
	news := ack - s.acked
	keep = keep && s.kept == nil && 0 < news && news < a.small
	if s.kept != nil {
		s.kept.Release() // it said no more than this does
	}
	s.acked, s.kept, s.old = ack, nil, false
	if !keep {
		return nil, true
	}
	s.kept = f
	if !a.ticks {
		a.ticks = true
		time.AfterFunc(ackTime, a.tick)
	}
	return nil, false
}

// tick sends what the tick before has seen.
func (a *acks) tick() {
	var due []*vnet.Frame
	a.mu.Lock()
	a.ticks = false
	for i := range a.slots {
		switch s := &a.slots[i]; {
		case s.kept == nil:
		case s.old:
			due = append(due, s.kept)
			s.kept = nil
		default:
			s.old, a.ticks = true, true
		}
	}
	if a.ticks {
		time.AfterFunc(ackTime, a.tick)
	}
	a.mu.Unlock()
	for _, f := range due {
		a.send(f)
	}
}
