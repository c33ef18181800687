// Package stream puts the segments of TCP in order again.
//
// A [Half] is what one end says. It holds what nobody has read yet and what came
// before its turn; both are bounded for each half, and by a [Memory] for many
// together. Of bytes that come twice the first count, as they do for a receiver
// that has them. What does not fit is lost, and counted: nothing after it is read.
package stream

import (
	"slices"
	"sync/atomic"
)

// Bounds of one half, in bytes but for maxAhead.
const (
	// MaxUnread is how much may wait for more of it: a head of HTTP, a ClientHello.
	MaxUnread = 18 << 10
	// maxAhead and maxAheadBytes are how many segments may wait for an earlier one.
	maxAhead      = 32
	maxAheadBytes = 128 << 10
	// window is how far ahead a segment may be: no receiver of ours takes more.
	window = 16 << 20
)

// Memory is what several halves hold together, as a part of what more of them do.
type Memory struct {
	parent *Memory
	limit  int64
	used   atomic.Int64
	lost   atomic.Uint64
}

// NewMemory makes a memory of limit bytes, which count in parent too unless it is nil.
func NewMemory(limit int64, parent *Memory) *Memory { return &Memory{parent: parent, limit: limit} }

// Used is how many bytes are held.
func (m *Memory) Used() int64 { return m.used.Load() }

// Lost is how many halves were given up because something did not fit.
func (m *Memory) Lost() uint64 { return m.lost.Load() }

func (m *Memory) take(n int) bool {
	if m.used.Add(int64(n)) > m.limit || m.parent != nil && !m.parent.take(n) {
		m.used.Add(-int64(n))
		return false
	}
	return true
}

func (m *Memory) give(n int) {
	for ; m != nil; m = m.parent {
		m.used.Add(-int64(n))
	}
}

func (m *Memory) lose() {
	for ; m != nil; m = m.parent {
		m.lost.Add(1)
	}
}

// Pieces are bytes of a frame. What is behind Head can be memory of a guest that
// changes: each byte is read once.
type Pieces struct {
	Head []byte
	Body [][]byte
}

// Append appends the n bytes at off to dst, as far as there are so many.
func (p Pieces) Append(dst []byte, off, n int) []byte {
	take := func(piece []byte) {
		if off >= len(piece) {
			off -= len(piece)
			return
		}
		piece = piece[off:]
		off = 0
		piece = piece[:min(n, len(piece))]
		dst = append(dst, piece...)
		n -= len(piece)
	}
	take(p.Head)
	for _, b := range p.Body {
		if n <= 0 {
			break
		}
		take(b)
	}
	return dst
}

// Half is what one end of a connection says. With a Memory it waits for its start.
type Half struct {
	// Memory is what it holds a part of, set before anything is added.
	Memory *Memory

	begun bool
	over  bool   // nothing more is wanted
	next  uint32 // the number of the next byte
	skip  int64  // bytes from next on that nobody has to look at
	buf   []byte // read by nobody yet
	ahead []segment
	held  int // bytes taken from the memory
}

type segment struct {
	seq  uint32
	data []byte
}

// Start says which number the first byte has. It has no effect on a half that has begun.
func (h *Half) Start(seq uint32) {
	if !h.begun {
		h.begun, h.next = true, seq
	}
}

// Over reports whether nothing more is read.
func (h *Half) Over() bool { return h.over }

// Stop has nothing more read, and gives back what is held.
func (h *Half) Stop() {
	h.over = true
	if h.held > 0 {
		h.Memory.give(h.held)
	}
	h.held, h.buf, h.ahead = 0, nil, nil
}

// lose stops because something is missing.
func (h *Half) lose() {
	h.Memory.lose()
	h.Stop()
}

// Add takes the segment that begins at number seq, of which the n bytes are at off
// in p. It says whether there is something new to read.
func (h *Half) Add(seq uint32, p Pieces, off, n int) bool {
	if h.over || n <= 0 {
		return false
	}
	h.Start(seq)
	d := int32(seq - h.next)
	switch {
	case d > window || d < -window:
		return false // no receiver takes it
	case d > 0:
		h.keep(seq, p, off, n)
		return false
	case int(-d) >= n:
		return false // known
	}
	off, n = off+int(-d), n-int(-d)
	if !h.read(func(dst []byte, from, n int) []byte { return p.Append(dst, off+from, n) }, n) {
		return false
	}
	for len(h.ahead) > 0 && !h.over {
		s := h.ahead[0]
		d := int(int32(h.next - s.seq))
		if d < 0 {
			break
		}
		h.ahead = slices.Delete(h.ahead, 0, 1)
		h.give(len(s.data))
		if d < len(s.data) && !h.read(func(dst []byte, from, n int) []byte { return append(dst, s.data[d+from:d+from+n]...) }, len(s.data)-d) {
			return false
		}
	}
	return !h.over && len(h.buf) > 0
}

// read appends the next n bytes, without those to be skipped.
func (h *Half) read(from func(dst []byte, from, n int) []byte, n int) bool {
	h.next += uint32(n)
	pass := int(min(h.skip, int64(n)))
	h.skip -= int64(pass)
	if n == pass {
		return true
	}
	if !h.Memory.take(n - pass) {
		h.lose()
		return false
	}
	h.held += n - pass
	before := len(h.buf)
	h.buf = from(h.buf, pass, n-pass)
	if len(h.buf) != before+n-pass {
		h.lose() // the frame is shorter than it said
		return false
	}
	return true
}

func (h *Half) give(n int) {
	h.held -= n
	h.Memory.give(n)
}

// keep puts a segment aside whose turn has not come.
func (h *Half) keep(seq uint32, p Pieces, off, n int) {
	total := n
	at := len(h.ahead)
	for i := range h.ahead {
		s := &h.ahead[i]
		if s.seq == seq && len(s.data) >= n {
			return // sent again
		}
		if at == len(h.ahead) && int32(seq-s.seq) < 0 {
			at = i
		}
		total += len(s.data)
	}
	if len(h.ahead) == maxAhead || total > maxAheadBytes || !h.Memory.take(n) {
		h.lose()
		return
	}
	h.held += n
	data := p.Append(make([]byte, 0, n), off, n)
	if len(data) != n {
		h.lose()
		return
	}
	h.ahead = slices.Insert(h.ahead, at, segment{seq, data})
}

// Unread are the bytes that are in order and that nobody has used. They stay valid
// until the next call.
func (h *Half) Unread() []byte { return h.buf }

// Use has the first used bytes count as read, and passes over skip more. When more than
// MaxUnread bytes are left, there is no use in waiting for others.
func (h *Half) Use(used int, skip int64) {
	pass := int(min(skip, int64(len(h.buf)-used)))
	h.skip += skip - int64(pass)
	used += pass
	h.give(used)
	h.buf = h.buf[used:]
	if len(h.buf) == 0 {
		h.buf = nil
	}
}

// Settle is called when nothing more can be used of what there is for now.
func (h *Half) Settle() {
	if len(h.buf) > MaxUnread {
		h.lose()
		return
	}
	if cap(h.buf) > 2*len(h.buf) {
		h.buf = slices.Clone(h.buf)
	}
}
