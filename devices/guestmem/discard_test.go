package guestmem

import (
	"bytes"
	"math"
	"os"
	"testing"
)

// touch fills the regions with ones, so that all of them takes memory.
func touch(m *Memory) {
	for _, r := range m.Regions() {
		copy(r.Bytes, bytes.Repeat([]byte{1}, len(r.Bytes)))
	}
}

func TestDiscard(t *testing.T) {
	m := testMemory(t) // a page at 0x10000, two at 0x80000
	page := uint64(os.Getpagesize())
	for _, c := range []struct {
		name  string
		a     Addr
		n     uint64
		pages uint64
	}{
		{"one page", 0x10000, page, 1},
		{"less than a page", 0x80000, page - 1, 0},
		{"parts of two pages", 0x80001, 2*page - 2, 0},
		{"a page and parts around it", 0x80000, 2*page - 1, 1},
		{"all there is", 0, math.MaxUint64, 3},
		{"outside", 0x20000, page, 0},
		{"the top of the address space", math.MaxUint64 - 1, math.MaxUint64, 0},
		{"nothing", 0x10000, 0, 0},
	} {
		touch(m)
		before, err := m.Used()
		if err != nil {
			t.Fatal(err)
		}
		got, err := m.Discard(c.a, c.n)
		if err != nil || got != c.pages*page {
			t.Errorf("%s: %d bytes (%v), want %d pages", c.name, got, err, c.pages)
		}
		after, err := m.Used()
		if err != nil || before-after != c.pages*page {
			t.Errorf("%s: the host got %d bytes (%v), want %d pages", c.name, before-after, err, c.pages)
		}
	}
	var b [1]byte
	if err := m.ReadAt(b[:], 0x10000); err != nil || b[0] != 1 {
		t.Errorf("a page that was not discarded holds %d (%v)", b[0], err)
	}
	m.Discard(0x10000, page)
	if err := m.ReadAt(b[:], 0x10000); err != nil || b[0] != 0 {
		t.Errorf("a discarded page holds %d (%v)", b[0], err)
	}
}

func TestKeptPagesStay(t *testing.T) {
	m := testMemory(t)
	page := uint64(os.Getpagesize())
	touch(m)
	k, other := m.Keep(), m.Keep()
	for range 2 {
		if err := k.Add(0x80000+Addr(page)-1, 1); err != nil {
			t.Fatal(err)
		}
	}
	if err := other.Add(0x10000, 1); err != nil {
		t.Fatal(err)
	}
	if err := k.Add(0x20000, 1); err == nil {
		t.Error("an address outside RAM was kept")
	}
	if got, err := m.Discard(0, math.MaxUint64); err != nil || got != page {
		t.Errorf("%d bytes were discarded (%v), want the one page that nobody keeps", got, err)
	}
	for a, want := range map[Addr]byte{0x10000: 1, 0x80000: 1, 0x80000 + Addr(page): 0} {
		var b [1]byte
		if err := m.ReadAt(b[:], a); err != nil || b[0] != want {
			t.Errorf("%#x holds %d (%v), want %d", a, b[0], err, want)
		}
	}
	if err := k.Close(); err != nil {
		t.Fatal(err)
	}
	if got, err := m.Discard(0x80000, 2*page); err != nil || got != 2*page {
		t.Errorf("%d bytes were discarded after the pages had been let go (%v)", got, err)
	}
	if got, err := m.Discard(0x10000, page); err != nil || got != 0 {
		t.Errorf("%d bytes of what another keeps were discarded (%v)", got, err)
	}
}

func TestMemoryOfOthersIsNotDiscarded(t *testing.T) {
	b := bytes.Repeat([]byte{1}, 1<<16)
	m, err := New(Region{Bytes: b})
	if err != nil {
		t.Fatal(err)
	}
	if n, err := m.Discard(0, 1<<16); n != 0 || err != nil || b[0] != 1 {
		t.Errorf("%d bytes, %v, the first is %d", n, err, b[0])
	}
}

func TestLocate(t *testing.T) {
	m := testMemory(t)
	page := uint64(os.Getpagesize())
	for _, r := range []Range{{0x10000, page}, {0x80000, 2 * page}, {0x80000 + Addr(page), 7}} {
		b, err := m.Slice(r.Base, r.Size)
		if err != nil {
			t.Fatal(err)
		}
		if a, ok := m.Locate(b); !ok || a != r.Base {
			t.Errorf("%#x: located at %#x, %v", r.Base, a, ok)
		}
	}
	for _, b := range [][]byte{nil, make([]byte, 8), m.Regions()[0].Bytes[:0]} {
		if a, ok := m.Locate(b); ok {
			t.Errorf("other bytes were located at %#x", a)
		}
	}
}
