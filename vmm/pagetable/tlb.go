package pagetable

import (
	"encoding/binary"
	"sync/atomic"

	"warder/devices/guestmem"
)

// InPlace is guest memory that can be looked at where it lies;
// *guestmem.Memory is.
type InPlace interface {
	Reader
	// Word is the word at a, a multiple of 8.
	Word(a guestmem.Addr) (*uint64, error)
	// Slice is the n bytes at a.
	Slice(a guestmem.Addr, n uint64) ([]byte, error)
	// Unplugs counts how often something of it was taken away, which is when what
	// Word and Slice gave may be no longer the guest's.
	Unplugs() uint64
}

const (
	tlbPage    = smallPiece
	tlbEntries = 256
	tlbHalves  = 8
	maxLevels  = 5 // of any walk
)

// TLB remembers where pages are from one question about a guest to the next. It
// never says what a walk would not say: with each page are the table entries that
// its walk has read, and a question uses it only after they were found to be the same.
// The kernel's pages are remembered from one process to another where they have a half
// of the address space to themselves, on arm64. Within a question the tables are
// taken to stay. It is not for concurrent use.
type TLB struct {
	mem       InPlace
	space     Space
	low, high uint64 // numbers of the space's halves
	question  uint64
	unplugs   uint64 // by the beginning of the question
	halves    [tlbHalves]numbered
	numbers   uint64 // given to halves so far
	entries   [tlbEntries]tlbEntry
	walk      noted
}

// numbered is half of an address space under a number that no other one gets.
type numbered struct {
	half   walker
	number uint64
}

type tlbEntry struct {
	page     uint64 // number of the page plus one; 0 for none
	question uint64 // for which it was found or checked
	half     uint64 // number of the half that it is in
	at       guestmem.Addr
	data     []byte
	walk     walk
}

// walk is the table entries that a walk has read.
type walk struct {
	n     int
	words [maxLevels]*uint64
	found [maxLevels]uint64
}

// same says whether a walk would read the same now.
func (w *walk) same() bool {
	if w.n > maxLevels {
		return false
	}
	for i := range w.n {
		if atomic.LoadUint64(w.words[i]) != w.found[i] {
			return false
		}
	}
	return true
}

// noted is memory that notes what a walk reads.
type noted struct {
	InPlace
	walk walk
}

// LoadUint64 implements Reader.
func (r *noted) LoadUint64(a guestmem.Addr) (uint64, error) {
	p, err := r.Word(a)
	if err != nil {
		return 0, err
	}
	v := atomic.LoadUint64(p)
	if w := &r.walk; w.n < maxLevels {
		w.words[w.n], w.found[w.n] = p, v
	}
	r.walk.n++
	return v, nil
}

// NewTLB makes one that remembers nothing. It must not be used after the memory's
// Close.
func NewTLB(mem InPlace) *TLB { return &TLB{mem: mem, walk: noted{InPlace: mem}} }

// Reset begins a question about an address space.
func (t *TLB) Reset(s Space) {
	t.question++
	if n := t.mem.Unplugs(); n != t.unplugs {
		t.unplugs, t.entries = n, [tlbEntries]tlbEntry{}
	}
	if t.space.high != s.high || t.high == 0 {
		t.high = t.number(s.high)
	}
	if t.space.low != s.low || t.low == 0 {
		t.low = t.number(s.low)
	}
	t.space = s
}

// Complete gives the question's space the half that it lacks: see [Space.Whole].
func (t *TLB) Complete(s Space) {
	t.space.low, t.low = s.low, t.number(s.low)
}

// number is that of a half.
func (t *TLB) number(half walker) uint64 {
	for i := range t.halves {
		if n := &t.halves[i]; n.number != 0 && n.half == half {
			return n.number
		}
	}
	t.numbers++
	t.halves[t.numbers%tlbHalves] = numbered{half, t.numbers}
	return t.numbers
}

// Space is the space of the question.
func (t *TLB) Space() Space { return t.space }

// Page is what lies from va on to the end of its page, where it lies: the guest may
// change it at any time. It is good for this question.
func (t *TLB) Page(va uint64) ([]byte, error) {
	e, err := t.entry(va)
	if err != nil {
		return nil, err
	}
	return e.data[va%tlbPage:], nil
}

// Uint64 is the word at va, which need not be aligned. It is false for one that is
// not mapped, or not in one page of RAM.
func (t *TLB) Uint64(va uint64) (uint64, bool) {
	page := va/tlbPage + 1
	e := &t.entries[page%tlbEntries]
	if e.page != page || e.question != t.question {
		var err error
		if e, err = t.entry(va); err != nil {
			return 0, false
		}
	}
	off := va % tlbPage
	if off > tlbPage-8 {
		return 0, false
	}
	return binary.LittleEndian.Uint64(e.data[off:]), true
}

// Translate returns where va is, which need not be RAM.
func (t *TLB) Translate(va uint64) (guestmem.Addr, error) {
	if e, err := t.entry(va); err == nil {
		return e.at + guestmem.Addr(va%tlbPage), nil
	}
	m, err := t.space.Translate(t.mem, va)
	return m.Addr, err
}

// ReadAt fills p from virtual address va on. After an error p's content is
// undefined.
func (t *TLB) ReadAt(p []byte, va uint64) error {
	for len(p) > 0 {
		n := min(tlbPage-va%tlbPage, uint64(len(p)))
		if e, err := t.entry(va); err == nil {
			copy(p[:n], e.data[va%tlbPage:])
		} else if err := t.space.Read(t.mem, va, p[:n]); err != nil { // it is no RAM, if anything
			return err
		}
		p, va = p[n:], va+n
		if va < n && len(p) > 0 {
			return &FaultError{VA: va, Err: ErrAddress}
		}
	}
	return nil
}

func (t *TLB) entry(va uint64) (*tlbEntry, error) {
	page := va/tlbPage + 1
	e := &t.entries[page%tlbEntries]
	if e.page == page && e.question == t.question {
		return e, nil
	}
	half := t.low
	if InKernel(va) {
		half = t.high
	}
	if e.page == page && e.half == half && e.walk.same() {
		e.question = t.question
		return e, nil
	}
	e.page = 0
	t.walk.walk.n = 0
	m, err := t.space.Translate(&t.walk, va)
	if err != nil {
		return nil, err
	}
	at := m.Addr - guestmem.Addr(va%tlbPage)
	data, err := t.mem.Slice(at, tlbPage)
	if err != nil {
		return nil, &FaultError{VA: va, Err: err}
	}
	*e = tlbEntry{page, t.question, half, at, data, t.walk.walk}
	return e, nil
}
