// Package net is the virtio network device (VIRTIO 1.2, section 5.1): an Ethernet
// interface in the guest, plugged into a [Port].
//
// # Frames
//
// A [Frame] is one Ethernet frame on its way, with what its sender left to others
// ([Offload]): a checksum to fill in, or up to 64 KiB of TCP or UDP payload to be
// cut into segments. Its first bytes are a copy, so that what was looked at there is
// what is delivered; the rest stays in the memory of the guest that sent it until it
// is copied, once, to where it is to go:
//
//	guest A ──Pop──▶ Device A ──Send──▶ Port ──Deliver──▶ Device B ──Push──▶ guest B
//	   ▲                                 │ (may wait)
//	   └────────────── Release ◀─────────┘
//
// What is left to be done is done only for a receiver that does not take it so: its
// driver did not negotiate it, or has switched it off since. Between two guests that
// do, nothing is summed or cut.
//
// Headers are the guest's word and go on to other guests and to the host's kernel, so
// each is checked against the frame that it stands before ([Frame.SetHeader]). A frame
// that does not match is dropped, counted, and harms nobody; its sender goes on.
//
// # Back-pressure
//
// A receive queue without room refuses a frame ([ErrFull]) and says when it has room
// again ([Port]). Meanwhile the frame may wait, in its sender's memory and as one of
// the sender's buffers: a sender whose frames all wait has to wait itself, and nothing
// is lost. A port with more than one receiver bounds how many frames of one sender
// wait for one receiver, so that none stops the way to others.
package net
