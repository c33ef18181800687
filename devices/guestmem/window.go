package guestmem

import "sync/atomic"

// A Window is a piece of memory that was found once, for who uses it again and again:
// as the rings of a queue. Its loads and stores are those of [Memory] at a distance from
// its start, which must be inside it. It is not for concurrent use, and not for any after
// the memory's Close.
type Window struct {
	mem     *Memory
	at      Addr
	size    uint64
	unplugs uint64 // as it was found
	bytes   []byte
	words   []uint32 // those of the memory that hold a byte of it
	before  uint64   // bytes of the first that do not
}

// Window is the n bytes at a, a multiple of 2, which must be in one region.
func (m *Memory) Window(a Addr, n uint64) (Window, error) {
	w := Window{mem: m, at: a, size: n}
	if n == 0 || a%2 != 0 {
		return w, ErrRange
	}
	return w, w.find()
}

func (w *Window) find() error {
	unplugs := w.mem.Unplugs() // before: what goes meanwhile is looked for again
	b, err := w.mem.Slice(w.at, w.size)
	if err != nil {
		return err
	}
	w.before = uint64(w.at) & 3
	w.bytes, w.words, w.unplugs = b, words(b, w.before), unplugs
	return nil
}

// Check fails if some of the window is not there any more. It goes before a use.
func (w *Window) Check() error {
	if w.mem.Unplugs() == w.unplugs {
		return nil
	}
	return w.find()
}

// Bytes are those of the window, as [Memory.Slice] has them.
func (w *Window) Bytes() []byte { return w.bytes }

// LoadUint16 reads the word at off.
func (w *Window) LoadUint16(off uint64) uint16 {
	off += w.before
	return uint16(atomic.LoadUint32(&w.words[off/4]) >> (off % 4 * 8))
}

// StoreUint16 writes the word at off.
func (w *Window) StoreUint16(off uint64, v uint16) {
	off += w.before
	store16(&w.words[off/4], uint(off%4*8), v)
}

// StoreUint32 writes the word at off, from the start of a window that is at a multiple of 4.
func (w *Window) StoreUint32(off uint64, v uint32) {
	atomic.StoreUint32(&w.words[off/4], v)
}
