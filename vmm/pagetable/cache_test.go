package pagetable

import (
	"bytes"
	"math/rand/v2"
	"testing"

	"warder/devices/guestmem"
)

// varied maps pages of each size from base on.
func varied(r ram, base uint64) Space {
	const pdpt, pd = 0x10_2000, 0x10_3000
	s := scattered(r, base)
	r.entry(pd, 2, 0x60_0000|x86P|x86PS)
	r.entry(pd, 3, 0x20_0000|x86P|x86PS)
	r.entry(pdpt, 1, 0x4000_0000|x86P|x86PS)
	return s
}

// anywhere is an address in one of those pages, or not far from them.
func anywhere(random *rand.Rand, base uint64) uint64 {
	return base + []uint64{0, 0x2000, 4 << 20, 6 << 20, 1 << 30, 1<<30 + 80<<20}[random.IntN(6)] + random.Uint64N(3<<20) - 1<<19
}

// agree holds translations of many addresses against the space's own, and gives how
// many are mapped.
func agree(t *testing.T, r ram, s Space, base uint64, translate func(va uint64) (guestmem.Addr, error)) (mapped int) {
	t.Helper()
	random := rand.New(rand.NewPCG(1, 2))
	for range 20_000 {
		va := anywhere(random, base)
		want, err := s.Translate(r, va)
		at, err2 := translate(va)
		if (err == nil) != (err2 == nil) || err == nil && at != want.Addr {
			t.Fatalf("%#x is at %#x (%v), the space says %#x (%v)", va, at, err2, want.Addr, err)
		}
		if err == nil {
			mapped++
		}
	}
	return mapped
}

// TestCacheAgrees translates addresses in pages of each size, many times over and
// across their borders, as the space itself does.
func TestCacheAgrees(t *testing.T) {
	r := newRAM(t)
	const base = 0xffff_8000_0000_0000
	s := varied(r, base)
	c := s.Cached()
	if n := agree(t, r, s, base, func(va uint64) (guestmem.Addr, error) { return c.Translate(r, va) }); n < 1000 {
		t.Errorf("only %d were mapped", n)
	}
}

// TestTLBAgrees has the tables change between questions, at each level.
func TestTLBAgrees(t *testing.T) {
	r := newRAM(t)
	const base = 0xffff_8000_0000_0000
	const pml4, pdpt, pd, pt, other = 0x10_1000, 0x10_2000, 0x10_3000, 0x10_4000, 0x10_5000
	s := varied(r, base)
	tlb := NewTLB(r)
	mapped := 0
	for _, change := range []func(){
		func() {},
		func() { r.entry(pt, 1, 0x15_3000|x86P) },
		func() { r.entry(pt, 1, 0) },
		func() { r.entry(pd, 2, 0x40_0000|x86P|x86PS) },
		func() { r.entry(pd, 0, other|x86P) },
		func() { r.entry(other, 0, 0x15_1000|x86P) },
		func() { r.entry(pdpt, 1, 0) },
		func() { r.entry(pml4, int(uint64(base)>>39&511), other|x86P) },
		func() { r.entry(pml4, int(uint64(base)>>39&511), pdpt|x86P) },
	} {
		change()
		tlb.Reset(s)
		mapped += agree(t, r, s, base, tlb.Translate)
	}
	if mapped < 9000 {
		t.Errorf("only %d were mapped", mapped)
	}
}

// TestTLBSpaces asks about more address spaces, in turn, than it knows apart.
func TestTLBSpaces(t *testing.T) {
	r := newRAM(t)
	tlb := NewTLB(r)
	const va = 0x1234_5678_9000
	var spaces []Space
	for i := range 3 * tlbHalves {
		// Four tables of the same shape, and a page, for each.
		at := func(n int) uint64 { return uint64(0x10_0000 + 0x5000*i + 0x1000*n) }
		for n, shift := range []uint{39, 30, 21, 12} {
			r.entry(at(n), int(va>>shift&511), at(n+1)|x86P)
		}
		r.entry(at(4), 1, uint64(i))
		spaces = append(spaces, AMD64{CR0: paging, CR3: at(0), EFER: longMode}.Space())
	}
	for range 2 {
		for i, s := range spaces {
			tlb.Reset(s)
			if p, err := tlb.Page(va + 8); err != nil || p[0] != byte(i) || len(p) != tlbPage-8 {
				t.Errorf("in space %d: % x, %v", i, p[:1], err)
			}
			if tlb.Space() != s {
				t.Errorf("space %d is another", i)
			}
			tlb.Reset(spaces[0])
			if p, err := tlb.Page(va + 8); err != nil || p[0] != 0 {
				t.Errorf("in space 0 after %d: % x, %v", i, p[:1], err)
			}
		}
	}
}

// file is what a guest has in its address space besides RAM.
type file []byte

func (f file) ReadAt(p []byte, off int64) (int, error) { return copy(p, f[off:]), nil }

// TestTLBReads reads across pages, over what is no RAM and over nothing.
func TestTLBReads(t *testing.T) {
	r := newRAM(t)
	const base, pd, attached = 0xffff_8000_0000_0000, 0x10_3000, 0x4000_0000
	s := varied(r, base)
	r.entry(pd, 4, attached|x86P|x86PS)
	if err := r.Attach(attached, 2<<20, file(bytes.Repeat([]byte("file"), 1<<19))); err != nil {
		t.Fatal(err)
	}
	random := rand.New(rand.NewPCG(3, 4))
	for at := uint64(0x15_0000); at < 0x15_4000; at += 8 {
		r.entry(at, 0, random.Uint64())
	}
	tlb := NewTLB(r)
	tlb.Reset(s)
	good := 0
	for range 5000 {
		va := anywhere(random, base)
		if random.IntN(4) == 0 {
			va = base + 8<<20 + random.Uint64N(3<<20) - 1<<19
		}
		want, got := make([]byte, random.IntN(9000)), make([]byte, 9000)
		err := s.Read(r, va, want)
		err2 := tlb.ReadAt(got[:len(want)], va)
		if (err == nil) != (err2 == nil) || err == nil && !bytes.Equal(want, got[:len(want)]) {
			t.Fatalf("%d bytes at %#x: %v, by the space itself %v, or they differ", len(want), va, err2, err)
		}
		if err == nil {
			good++
		}
	}
	if good < 100 {
		t.Errorf("only %d reads were good", good)
	}
}
