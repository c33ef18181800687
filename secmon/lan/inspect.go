package lan

import (
	"net/netip"

	"warder/devices/virtio/net"
	"warder/secmon/lan/packet"
	"warder/secmon/lan/request"
)

// An Inspector sees every frame that is sent into the switch, before it goes on.
type Inspector interface {
	// Start is called once, with the conversations that the switch knows.
	Start(*Flows)
	// Ended is told of a conversation that is over, but for those that the inspector
	// has taken out of the table itself, and why. The conversation is locked; Ended
	// does not wait.
	Ended(f *Flow, why string)
	// Inspect looks at frames, which one queue of one port sent in this order, and
	// sets their verdicts. It runs on the way of the frames, for several ports at
	// once, and does not wait. Nothing of frames may be kept after it returns.
	Inspect(frames []Seen)
}

// A RequestInspector is an [Inspector] that is told of requests too which the gateway has
// read and does not pass on. RequestRefused does not wait.
type RequestInspector interface {
	RequestRefused(RefusedRequest)
}

// RefusedRequest is a request that one service makes and is not declared to make.
type RefusedRequest struct {
	From, To            *Port // To is nil if the gateway itself is asked
	VLAN                uint16
	Protocol            uint8 // of IP
	Source, Destination netip.AddrPort
	HTTP                *request.Head // nil if it is none of HTTP
	Name                string        // that was asked for by DNS
	Why                 error         // it could not be read, nil if it could
}

// RequestRefused tells the switch's inspector.
func (s *Switch) RequestRefused(r RefusedRequest) {
	if i, ok := s.inspector.(RequestInspector); ok {
		i.RequestRefused(r)
	}
}

// Seen is a frame as an inspector sees it.
type Seen struct {
	// Frame is without a VLAN tag. Of it, Head is a stable copy; Body is memory of
	// the VM that sent it, which may change it meanwhile: what is found there is
	// what was sent to deceive the inspector or the receiver. Neither may be changed.
	Frame *net.Frame
	// Headers are what its headers say.
	Headers packet.Headers
	// From is the port that sent it, To the one that it is for, nil for a frame
	// to several or to nobody.
	From, To *Port
	// VLAN is the one that the frame is in, 0 if it is in none that the port may use.
	VLAN uint16
	// Time is the monotonic time of the switch in nanoseconds.
	Time int64
	// Flow is the number of the conversation that the frame belongs to, 0 for one that
	// belongs to none. An ICMP error belongs to the one that it is about.
	Flow uint64
	// Direction is 0 for a frame from the flow's source, 1 for one from its destination.
	Direction int
	// Fresh says that the frame begins the conversation.
	Fresh bool
	// Known is what the inspector knew of the conversation when the frame was found to
	// be of it.
	Known any
	// Refused is why the switch does not let the frame pass; what the verdict is
	// is then of no interest.
	Refused Reason

	// Verdict is what is to become of it. It is Forward before Inspect is called.
	Verdict Verdict

	entry *Flow // of number Flow
}

// Conversation is the one that the frame belongs to, locked; nil if there is none, or
// not any more.
func (s *Seen) Conversation() *Flow {
	if s.entry == nil || !s.entry.Lock(s.Flow) {
		return nil
	}
	return s.entry
}

// Verdict is what becomes of a frame.
type Verdict uint8

// The verdicts of an inspector.
const (
	Forward Verdict = iota
	// Drop loses the frame.
	Drop
	// Divert sends it to the mirror ports in place of those that it is for.
	Divert
	// CutFlow loses it, and all that follow in its flow, both ways.
	CutFlow
)
