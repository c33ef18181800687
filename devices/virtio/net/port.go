package net

import "errors"

// A Port is what a device is plugged into: an end of a wire, a port of a switch, a
// TAP. Frames of one queue pair come one after the other, those of several at once.
type Port interface {
	// Start says that the guest has a driver: from now until Stop returns, frames
	// are sent, and r takes some.
	Start(r Receiver) error
	// Send takes a frame of the guest's. It is the port's until the port releases
	// it: at once, or later, while more frames come. Send itself does not wait.
	Send(f *Frame)
	// Ready says that there may be room again in a receive queue that was full. It
	// is called once after a Deliver that failed with ErrFull.
	Ready(queue int)
	// Stop releases all frames of this guest's that the port still has, before it
	// returns: their memory is about to go. No Send is under way.
	Stop()
}

// A Receiver is the device as its port sees it.
type Receiver interface {
	// Queue is the receive queue for f: the same for all frames of a conversation.
	Queue(f *Frame) int
	// Deliver copies f, from its part next on, to the guest. What remains to be
	// done of it is done if this guest does not take it as it is. f stays the
	// caller's. Its Offload has to fit it, as SetHeader sees to.
	//
	// A part next of 0 is the whole. When it fails with ErrFull, some of the frame
	// may have been delivered, and the rest begins with the part next that it
	// returns. ErrDown means that this frame will not be delivered.
	Deliver(queue int, f *Frame, part int) (next int, err error)
}

// What Deliver fails with.
var (
	// ErrFull says that the guest has no room now. The port's Ready is called when
	// that may have changed.
	ErrFull = errors.New("net: receive queue is full")
	// ErrDown says that the link is down, or that the guest has no driver.
	ErrDown = errors.New("net: link is down")
)

// An Offloader is a Port that has a say in what is left to be done of frames. One
// that is none takes all, and may deliver whatever is left to be done.
type Offloader interface {
	// Takes is what may be left to be done of frames that are sent. It never
	// changes.
	Takes() Offloads
	// SetOffloads says what the guest takes. It is called before Start, and again
	// at each change.
	SetOffloads(Offloads)
}
