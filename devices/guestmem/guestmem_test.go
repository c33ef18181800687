package guestmem

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math"
	"os"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

// testMemory is a page at 0x10000 and two at 0x80000.
func testMemory(t testing.TB) *Memory {
	page := uint64(os.Getpagesize())
	m, err := Allocate("guestmem-test", Range{0x80000, 2 * page}, Range{0x10000, page})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := m.Close(); err != nil {
			t.Error(err)
		}
	})
	return m
}

func TestRangesAreWholeOrNothing(t *testing.T) {
	m := testMemory(t)
	page := uint64(os.Getpagesize())
	for _, c := range []struct {
		a  Addr
		n  uint64
		ok bool
	}{
		{0x10000, 0, true}, {0x10000, page, true}, {0x10000, page + 1, false},
		{0x10000 + Addr(page), 1, false}, {0xffff, 1, false}, {0xffff, 2, false},
		{0x80000, 2 * page, true}, {0x80000 + Addr(page) - 1, 2, true},
		{0, 1, false}, {math.MaxUint64, 1, false}, {math.MaxUint64, math.MaxUint64, false},
		{0x80000, math.MaxUint64, false},
	} {
		if err := m.Check(c.a, c.n); (err == nil) != c.ok || err != nil && !errors.Is(err, ErrRange) {
			t.Errorf("%#x+%#x: %v", c.a, c.n, err)
		}
	}
	// A write that does not fit leaves no trace.
	if err := m.WriteAt(bytes.Repeat([]byte{1}, 8), 0x10000+Addr(page)-4); !errors.Is(err, ErrRange) {
		t.Error(err)
	}
	tail := make([]byte, 4)
	if err := m.ReadAt(tail, 0x10000+Addr(page)-4); err != nil || !bytes.Equal(tail, make([]byte, 4)) {
		t.Errorf("% x, %v", tail, err)
	}
}

func TestAtomicsAtEveryAlignment(t *testing.T) {
	m := testMemory(t)
	const base = 0x10000
	for off := range Addr(16) {
		v := uint64(0x0102030405060708) * uint64(off+1)
		check := func(size Addr, got uint64, loadErr, storeErr error) {
			t.Helper()
			if off%size != 0 {
				if !errors.Is(loadErr, ErrRange) || !errors.Is(storeErr, ErrRange) {
					t.Errorf("unaligned %d bytes at %d: %v, %v", size, off, loadErr, storeErr)
				}
				return
			}
			var raw [8]byte
			if err := errors.Join(loadErr, storeErr, m.ReadAt(raw[:], base+off)); err != nil {
				t.Fatal(err)
			}
			want := v & (1<<(8*size-1)<<1 - 1)
			inMemory := binary.LittleEndian.Uint64(raw[:]) & (1<<(8*size-1)<<1 - 1)
			if got != want || inMemory != want {
				t.Errorf("%d bytes at %d: loaded %#x, in memory %#x, want %#x", size, off, got, inMemory, want)
			}
		}
		err := m.StoreUint16(base+off, uint16(v))
		w16, err2 := m.LoadUint16(base + off)
		check(2, uint64(w16), err2, err)
		err = m.StoreUint32(base+off, uint32(v))
		w32, err2 := m.LoadUint32(base + off)
		check(4, uint64(w32), err2, err)
		err = m.StoreUint64(base+off, v)
		w64, err2 := m.LoadUint64(base + off)
		check(8, w64, err2, err)
	}
	last := Addr(base + os.Getpagesize())
	for _, a := range []Addr{last, last - 1, last + 2, 0, math.MaxUint64 - 1, math.MaxUint64 - 7} {
		_, err16 := m.LoadUint16(a)
		_, err32 := m.LoadUint32(a)
		_, err64 := m.LoadUint64(a)
		if err16 == nil || err32 == nil || err64 == nil {
			t.Errorf("%#x: %v, %v, %v", a, err16, err32, err64)
		}
	}
}

// TestStoreUint16KeepsItsNeighbour has two goroutines count up in the two
// halves of one word.
func TestStoreUint16KeepsItsNeighbour(t *testing.T) {
	m := testMemory(t)
	var wg sync.WaitGroup
	for half := range Addr(2) {
		wg.Go(func() {
			a := 0x10000 + 2*half
			for i := range uint16(10000) {
				if got, err := m.LoadUint16(a); err != nil || got != i {
					t.Errorf("half %d: %d after %d stores (%v)", half, got, i, err)
					return
				}
				m.StoreUint16(a, i+1)
			}
		})
	}
	wg.Wait()
}

func TestAllocateRefuses(t *testing.T) {
	page := uint64(os.Getpagesize())
	for _, rs := range [][]Range{
		{{0, 0}}, {{1, page}}, {{0, page + 1}}, {{0, 2 * page}, {Addr(page), page}},
		{{Addr(-int64(page)), 2 * page}},
		{{0, 1 << 63}}, {{0, 1 << 63}, {1 << 63, 1<<63 - page}},
	} {
		if m, err := Allocate("guestmem-test", rs...); err == nil {
			m.Close()
			t.Errorf("%v was allocated", rs)
		}
	}
}

func TestRegionsFollowTheFile(t *testing.T) {
	m := testMemory(t)
	if err := m.StoreUint32(0x80000, 0x1234); err != nil {
		t.Fatal(err)
	}
	var b [4]byte
	if _, err := unix.Pread(m.FD(), b[:], 0); err != nil || binary.LittleEndian.Uint32(b[:]) != 0x1234 {
		t.Errorf("the first range asked for is not first in the file: % x, %v", b, err)
	}
}

func FuzzSlice(f *testing.F) {
	m := testMemory(f)
	f.Add(uint64(0x10000), uint64(4096))
	f.Add(uint64(math.MaxUint64), uint64(math.MaxUint64))
	f.Fuzz(func(t *testing.T, a, n uint64) {
		b, err := m.Slice(Addr(a), n)
		if err == nil && (uint64(len(b)) != n || cap(b) != len(b)) {
			t.Fatalf("Slice(%#x, %d) gave %d bytes of %d", a, n, len(b), cap(b))
		}
	})
}
