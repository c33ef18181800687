package pagetable

import "warder/devices/guestmem"

// A [Cache] remembers pages in pieces of two sizes: no granule is smaller than one,
// and most of what a kernel keeps is in pages of the other or larger.
const (
	smallPiece = 4 << 10
	largePiece = 2 << 20

	smallPieces = 256
	largePieces = 32
)

// Cache is an address space that remembers where pages are, as a CPU's TLB does:
// for as long as one question about a guest takes. It is not for concurrent use.
type Cache struct {
	space Space
	small [smallPieces]piece
	large [largePieces]piece
}

// A piece is a part of a page that lies in one piece of memory.
type piece struct {
	number uint64 // of the piece plus one; 0 for none
	at     guestmem.Addr
}

// Cached returns the space with an empty memory of its pages.
func (s Space) Cached() *Cache { return &Cache{space: s} }

// Translate returns where va is, without what [Mapping] says beyond that.
func (c *Cache) Translate(mem Reader, va uint64) (guestmem.Addr, error) {
	number := va/largePiece + 1
	if p := &c.large[number%largePieces]; p.number == number {
		return p.at + guestmem.Addr(va%largePiece), nil
	}
	number = va/smallPiece + 1
	if p := &c.small[number%smallPieces]; p.number == number {
		return p.at + guestmem.Addr(va%smallPiece), nil
	}
	m, err := c.space.Translate(mem, va)
	if err != nil {
		return 0, err
	}
	if m.PageSize >= largePiece {
		number = va/largePiece + 1
		c.large[number%largePieces] = piece{number, m.Addr - guestmem.Addr(va%largePiece)}
	} else {
		c.small[number%smallPieces] = piece{number, m.Addr - guestmem.Addr(va%smallPiece)}
	}
	return m.Addr, nil
}

// Read is [Space.Read] by what is remembered.
func (c *Cache) Read(mem Reader, va uint64, p []byte) error {
	for len(p) > 0 {
		at, err := c.Translate(mem, va)
		if err != nil {
			return err
		}
		n := min(smallPiece-va%smallPiece, uint64(len(p)))
		if err := mem.ReadAt(p[:n], at); err != nil {
			return &FaultError{VA: va, Err: err}
		}
		p, va = p[n:], va+n
		if va < n && len(p) > 0 {
			return &FaultError{VA: va, Err: ErrAddress}
		}
	}
	return nil
}
