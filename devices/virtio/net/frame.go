package net

import (
	"warder/devices/virtio/virtq"
)

const (
	// HeadSize is how many bytes of a frame are copied before anybody looks at
	// them. All headers of a frame that is to be cut or summed lie in there.
	HeadSize = 256
	// MaxFrame is the length of the longest frame in bytes: 64 KiB as an IP packet
	// with Ethernet header and two VLAN tags.
	MaxFrame = 65535 + etherHeader + maxTags
	// MaxPairs bounds the queue pairs of a device.
	MaxPairs = 8
)

// A Frame is one Ethernet frame, without its checksum. Who holds it may read all of
// it and change Head and Offload, until it is released.
type Frame struct {
	Offload

	// Head is the frame's first HeadSize bytes, all of a shorter frame. No guest
	// can change it.
	Head []byte
	// Body is the rest, piece by piece. For a frame from a guest it is the guest's
	// memory, which the guest can change while it is read.
	Body [][]byte
	// Len is the length of the whole in bytes.
	Len int
	// Queue is the queue pair that it was sent in.
	Queue int
	// Done is called when a frame that is no guest's is released; nil: nobody waits for it.
	Done func()

	sender *transmitter // nil for a frame of nobody's
	chain  *virtq.Chain
	head   [HeadSize]byte
}

// Release gives the frame back to its sender: it has been delivered, or dropped.
// It may be called from any goroutine, once.
func (f *Frame) Release() {
	switch {
	case f.sender != nil:
		f.sender.release(f)
	case f.Done != nil:
		f.Done()
	}
}

// Fill makes f a frame of the pieces, whose first bytes are copied to f.Head. The
// offload header is cleared.
func (f *Frame) Fill(pieces ...[]byte) {
	f.Offload, f.Len = Offload{}, 0
	f.Body = f.Body[:0]
	f.Head = f.head[:0]
	for _, p := range pieces {
		f.Len += len(p)
		n := min(len(p), HeadSize-len(f.Head))
		f.Head = append(f.Head, p[:n]...)
		if n < len(p) {
			f.Body = append(f.Body, p[n:])
		}
	}
}

// A cursor goes through bytes in pieces.
type cursor struct {
	piece  []byte // what is left of the current piece
	behind []byte // the piece after it
	rest   [][]byte
	left   int // bytes, at most those in the pieces
}

// from is a cursor over n bytes of the frame from byte off on.
func (f *Frame) from(off, n int) cursor {
	c := cursor{piece: f.Head, rest: f.Body, left: off}
	for !c.end() {
		c.next(off)
	}
	c.left = n
	return c
}

// after is a cursor over head and then what is left of c.
func (c cursor) after(head []byte) cursor {
	return cursor{piece: head, behind: c.piece, rest: c.rest, left: len(head) + c.left}
}

// end reports whether nothing is left. If something is, piece has it.
func (c *cursor) end() bool {
	for c.left > 0 && len(c.piece) == 0 {
		switch {
		case len(c.behind) > 0:
			c.piece, c.behind = c.behind, nil
		case len(c.rest) > 0:
			c.piece, c.rest = c.rest[0], c.rest[1:]
		default:
			c.left = 0
		}
	}
	return c.left == 0
}

// next is the next bytes, at most n, as many as are in one piece; none at the end.
func (c *cursor) next(n int) []byte {
	if c.end() {
		return nil
	}
	p := c.piece[:min(n, len(c.piece), c.left)]
	c.piece = c.piece[len(p):]
	c.left -= len(p)
	return p
}
