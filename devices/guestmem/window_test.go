package guestmem

import (
	"errors"
	"os"
	"testing"
)

// TestWindow compares a window with the memory that it shows, at each alignment.
func TestWindow(t *testing.T) {
	m := testMemory(t)
	end := Addr(0x10000 + os.Getpagesize())
	for _, at := range []Addr{0x10000, 0x10002, 0x10004, end - 14, end - 16} {
		w, err := m.Window(at, 14)
		if err != nil {
			t.Fatal(err)
		}
		if len(w.Bytes()) != 14 {
			t.Errorf("%d bytes at %#x", len(w.Bytes()), at)
		}
		for off := uint64(0); off < 14; off += 2 {
			if err := m.StoreUint16(at+Addr(off), uint16(0x1234+off)); err != nil {
				t.Fatal(err)
			}
		}
		for off := uint64(0); off < 14; off += 2 {
			if got := w.LoadUint16(off); got != uint16(0x1234+off) {
				t.Errorf("%#x at %#x+%d", got, at, off)
			}
			w.StoreUint16(off, uint16(0xabcd-off))
			if got, err := m.LoadUint16(at + Addr(off)); err != nil || got != uint16(0xabcd-off) {
				t.Errorf("stored %#x at %#x+%d: %v", got, at, off, err)
			}
			if off < 12 && w.LoadUint16(off+2) != uint16(0x1234+off+2) {
				t.Errorf("a store at %#x+%d changed its neighbour", at, off)
			}
		}
		if at%4 != 0 {
			continue
		}
		for off := uint64(0); off < 12; off += 4 {
			w.StoreUint32(off, uint32(0xdeadbeef+off))
			if got, err := m.LoadUint32(at + Addr(off)); err != nil || got != uint32(0xdeadbeef+off) {
				t.Errorf("stored %#x at %#x+%d: %v", got, at, off, err)
			}
		}
	}
	for _, bad := range []Range{{0x10001, 2}, {0x10000, 0}, {end - 2, 4}, {end, 2}, {0xfffe, 4}} {
		if _, err := m.Window(bad.Base, bad.Size); !errors.Is(err, ErrRange) {
			t.Errorf("a window of %#x: %v", bad, err)
		}
	}
}

// TestWindowOfMemoryThatGoes: a window knows when its memory was taken away, and when it
// came back.
func TestWindowOfMemoryThatGoes(t *testing.T) {
	page := uint64(os.Getpagesize())
	const base = 0x100000
	m, err := Allocate("guestmem-test", Range{base, 8 * page})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	if err := errors.Join(m.Hotplug(base, page), m.Plug(base, 4*page)); err != nil {
		t.Fatal(err)
	}
	w, err := m.Window(base+Addr(page), page)
	if err != nil {
		t.Fatal(err)
	}
	for _, step := range []struct {
		name string
		do   func() error
		want error
	}{
		{"nothing", func() error { return nil }, nil},
		{"another page goes", func() error { return m.Unplug(base, page) }, nil},
		{"its page goes", func() error { return m.Unplug(base+Addr(page), page) }, ErrRange},
		{"a page comes", func() error { return m.Plug(base, page) }, ErrRange},
		{"its page comes", func() error { return m.Plug(base+Addr(page), page) }, nil},
	} {
		if err := step.do(); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if err := w.Check(); !errors.Is(err, step.want) {
				t.Errorf("%s: %v, want %v", step.name, err, step.want)
			}
		}
	}
}
