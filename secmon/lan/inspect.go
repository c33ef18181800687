package lan

import "warder/devices/virtio/net"

// An Inspector sees every frame that is sent into the switch, before it goes on.
type Inspector interface {
	// Inspect looks at frames, which one queue of one port sent in this order, and
	// sets their verdicts. It runs on the way of the frames, for several ports at
	// once, and does not wait. Nothing of frames may be kept after it returns.
	Inspect(frames []Seen)
}

// Seen is a frame as an inspector sees it.
type Seen struct {
	// Frame is without a VLAN tag. Of it, Head is a stable copy; Body is memory of
	// the VM that sent it, which may change it meanwhile: what is found there is
	// what was sent to deceive the inspector or the receiver. Neither may be changed.
	Frame *net.Frame
	// Packet is what its headers say. Its zero value is that of no frame that
	// could be read.
	Packet Packet
	// From is the port that sent it, To the one that it is for, nil for a frame
	// to several or to nobody.
	From, To *Port
	// VLAN is the one that the frame is in, 0 if it is in none that the port may use.
	VLAN uint16
	// Time is the monotonic time of the switch in nanoseconds.
	Time int64
	// Flow identifies the conversation that the frame belongs to, the same both ways;
	// 0 for one that belongs to none.
	Flow uint64
	// Reply says that the frame goes against the direction that the flow began in.
	Reply bool
	// Refused is why the switch does not let the frame pass; what the verdict is
	// is then of no interest.
	Refused Reason

	// Verdict is what is to become of it. It is Forward before Inspect is called.
	Verdict Verdict
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
