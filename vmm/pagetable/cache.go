package pagetable

import "warder/devices/guestmem"

// cached is how many pages a [Cache] remembers.
const cached = 256

// Cache is an address space that remembers where pages are, as a CPU's TLB does:
// for as long as one question about a guest takes. It is not for concurrent use.
type Cache struct {
	space    Space
	question uint64
	pages    [cached]struct {
		page     uint64 // number of the 4 KiB page plus one; 0 for none
		at       guestmem.Addr
		question uint64 // for which it was found
	}
}

// Cached returns the space with an empty memory of its pages.
func (s Space) Cached() *Cache { return &Cache{space: s} }

// Reset makes c a space with an empty memory of its pages, for the next question.
func (c *Cache) Reset(s Space) { c.space, c.question = s, c.question+1 }

// Space is the space of the latest question.
func (c *Cache) Space() Space { return c.space }

// Translate returns where va is, without what [Mapping] says beyond that.
func (c *Cache) Translate(mem Reader, va uint64) (guestmem.Addr, error) {
	const size = 4096 // no granule is smaller
	page := va/size + 1
	e := &c.pages[page%cached]
	if e.page != page || e.question != c.question {
		m, err := c.space.Translate(mem, va)
		if err != nil {
			return 0, err
		}
		e.page, e.at, e.question = page, m.Addr&^(size-1), c.question
	}
	return e.at + guestmem.Addr(va%size), nil
}

// Read is [Space.Read] by what is remembered.
func (c *Cache) Read(mem Reader, va uint64, p []byte) error {
	for len(p) > 0 {
		at, err := c.Translate(mem, va)
		if err != nil {
			return err
		}
		n := min(4096-va%4096, uint64(len(p)))
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
