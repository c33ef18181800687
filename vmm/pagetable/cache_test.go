package pagetable

import (
	"math/rand/v2"
	"testing"
)

// TestCacheAgrees translates addresses in pages of each size, many times over and
// across their borders, as the space itself does; then the tables change and the
// next question sees it.
func TestCacheAgrees(t *testing.T) {
	r := newRAM(t)
	const base = 0xffff_8000_0000_0000
	s := scattered(r, base)
	const pdpt, pd = 0x10_2000, 0x10_3000
	r.entry(pd, 2, 0x60_0000|x86P|x86PS)
	r.entry(pd, 3, 0x20_0000|x86P|x86PS)
	r.entry(pdpt, 1, 0x4000_0000|x86P|x86PS)
	c := s.Cached()
	random := rand.New(rand.NewPCG(1, 2))
	compare := func() {
		t.Helper()
		mapped := 0
		for range 20_000 {
			va := base + []uint64{0, 0x2000, 4 << 20, 6 << 20, 1 << 30, 1<<30 + 80<<20}[random.IntN(6)] + random.Uint64N(3<<20) - 1<<19
			want, err := s.Translate(r, va)
			at, err2 := c.Translate(r, va)
			if (err == nil) != (err2 == nil) || err == nil && at != want.Addr {
				t.Fatalf("%#x is at %#x (%v), the space says %#x (%v)", va, at, err2, want.Addr, err)
			}
			if err == nil {
				mapped++
			}
		}
		if mapped < 1000 {
			t.Errorf("only %d were mapped", mapped)
		}
	}
	compare()
	r.entry(pd, 2, 0x40_0000|x86P|x86PS)
	r.entry(pdpt, 1, 0)
	c.Reset(s)
	compare()
}
