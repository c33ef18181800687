package guestmem

import (
	"sync/atomic"
	"unsafe"
)

// aligned reports whether b starts at a multiple of n.
func aligned(b []byte, n uintptr) bool {
	// SAFETY: only the address is looked at.
	return uintptr(unsafe.Pointer(unsafe.SliceData(b)))%n == 0
}

// Locate is the guest's address of p, a piece of what [Memory.Slice] gave, and
// false for any other bytes or none.
func (m *Memory) Locate(p []byte) (Addr, bool) {
	if len(p) == 0 {
		return 0, false
	}
	// SAFETY: addresses are only compared; both are of mapped memory, which Go
	// never moves, or p is not of this memory, whatever its address is.
	at := uintptr(unsafe.Pointer(unsafe.SliceData(p)))
	for _, r := range m.regions {
		// SAFETY: as above.
		off := at - uintptr(unsafe.Pointer(unsafe.SliceData(r.Bytes)))
		if size := uintptr(len(r.Bytes)); off <= size && uintptr(len(p)) <= size-off {
			return r.Base + Addr(off), true
		}
	}
	return 0, false
}

// word32 is the aligned word that holds the n bytes at a, which must not cross
// its end, and how many bits below them it has.
func (m *Memory) word32(a Addr, n uint64) (*uint32, uint, error) {
	if uint64(a)%n != 0 {
		return nil, 0, ErrRange
	}
	b, err := m.Slice(a&^3, 4)
	if err != nil {
		return nil, 0, err
	}
	// SAFETY: Slice checked that these four bytes are mapped guest RAM; regions
	// start on a word, in the guest and on the host, so they are aligned.
	return (*uint32)(unsafe.Pointer(unsafe.SliceData(b))), uint(a&3) * 8, nil
}

// words are those of 4 bytes that hold one of b, a piece of what [Memory.Slice] gave, of
// the first of which before bytes come before b.
func words(b []byte, before uint64) []uint32 {
	// SAFETY: regions are whole words of 8 bytes, in the guest and on the host: the first
	// word begins in the region, at a multiple of 4 on the host too, and the last ends in it.
	first := unsafe.Add(unsafe.Pointer(unsafe.SliceData(b)), -int(before))
	return unsafe.Slice((*uint32)(first), (before+uint64(len(b))+3)/4)
}

// Word is the word at a, a multiple of 8, where it lies: to be loaded again and
// again by package sync/atomic. It must not be used after Close.
func (m *Memory) Word(a Addr) (*uint64, error) {
	if a%8 != 0 {
		return nil, ErrRange
	}
	b, err := m.Slice(a, 8)
	if err != nil {
		return nil, err
	}
	// SAFETY: as in word32.
	return (*uint64)(unsafe.Pointer(unsafe.SliceData(b))), nil
}

// The loads below are acquire loads and the stores are release stores (on both
// architectures sync/atomic is stronger still: sequentially consistent). Values
// are little-endian, as both architectures and virtio 1 have them.

// LoadUint16 reads the word at a, a multiple of 2. Go has no 16-bit atomics: it
// is part of the 32-bit word around it.
func (m *Memory) LoadUint16(a Addr) (uint16, error) {
	p, shift, err := m.word32(a, 2)
	if err != nil {
		return 0, err
	}
	return uint16(atomic.LoadUint32(p) >> shift), nil
}

// LoadUint32 reads the word at a, a multiple of 4.
func (m *Memory) LoadUint32(a Addr) (uint32, error) {
	p, _, err := m.word32(a, 4)
	if err != nil {
		return 0, err
	}
	return atomic.LoadUint32(p), nil
}

// LoadUint64 reads the word at a, a multiple of 8.
func (m *Memory) LoadUint64(a Addr) (uint64, error) {
	p, err := m.Word(a)
	if err != nil {
		return 0, err
	}
	return atomic.LoadUint64(p), nil
}

// StoreUint16 writes the word at a, a multiple of 2. The two bytes beside it
// are written back as they were read in the same atomic operation, so that what
// the guest stores there meanwhile is not lost.
func (m *Memory) StoreUint16(a Addr, v uint16) error {
	p, shift, err := m.word32(a, 2)
	if err != nil {
		return err
	}
	store16(p, shift, v)
	return nil
}

// store16 stores v in the word at p, above its lowest shift bits.
func store16(p *uint32, shift uint, v uint16) {
	for {
		old := atomic.LoadUint32(p)
		if atomic.CompareAndSwapUint32(p, old, old&^(0xffff<<shift)|uint32(v)<<shift) {
			return
		}
	}
}

// StoreUint32 writes the word at a, a multiple of 4.
func (m *Memory) StoreUint32(a Addr, v uint32) error {
	p, _, err := m.word32(a, 4)
	if err != nil {
		return err
	}
	atomic.StoreUint32(p, v)
	return nil
}

// StoreUint64 writes the word at a, a multiple of 8.
func (m *Memory) StoreUint64(a Addr, v uint64) error {
	p, err := m.Word(a)
	if err != nil {
		return err
	}
	atomic.StoreUint64(p, v)
	return nil
}
