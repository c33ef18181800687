package guestmem

import (
	"errors"
	"math"
	"os"
	"testing"
)

func TestHotplug(t *testing.T) {
	page := uint64(os.Getpagesize())
	const base = 0x100000
	m, err := Allocate("guestmem-test", Range{0x10000, page}, Range{base, 8 * page})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	at := func(pages uint64) Addr { return base + Addr(pages*page) }
	for _, block := range []uint64{0, page / 2, 3 * page, 16 * page} {
		if m.Hotplug(base, block) == nil {
			t.Errorf("blocks of %d bytes were taken", block)
		}
	}
	if err := m.Hotplug(0x20000, page); !errors.Is(err, ErrRange) {
		t.Errorf("blocks where no region starts: %v", err)
	}
	if err := m.Hotplug(base, 2*page); err != nil {
		t.Fatal(err)
	}
	if err := m.Check(base, 1); !errors.Is(err, ErrRange) {
		t.Errorf("memory is there before it was plugged: %v", err)
	}
	for _, bad := range []Range{{at(1), 2 * page}, {at(0), page}, {at(6), 4 * page}, {0x10000, page}, {at(8), 2 * page}, {math.MaxUint64 - 1, 2}} {
		if err := m.Plug(bad.Base, bad.Size); !errors.Is(err, ErrRange) {
			t.Errorf("plug %#x: %v", bad, err)
		}
		if err := m.Unplug(bad.Base, bad.Size); !errors.Is(err, ErrRange) {
			t.Errorf("unplug %#x: %v", bad, err)
		}
	}
	if err := m.Plug(at(2), 4*page); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		a  Addr
		n  uint64
		ok bool
	}{
		{at(2), 4 * page, true}, {at(3), 2 * page, true}, {at(2) - 1, 1, false}, {at(2) - 1, 2, false},
		{at(5), page + 1, false}, {at(6), 1, false}, {at(6), 0, true}, {at(0), 8 * page, false},
		{0x10000, page, true},
	} {
		if err := m.Check(c.a, c.n); (err == nil) != c.ok {
			t.Errorf("%#x+%#x: %v", c.a, c.n, err)
		}
	}

	b, err := m.Slice(at(2), 4*page)
	if err != nil {
		t.Fatal(err)
	}
	for i := range b {
		b[i] = 1
	}
	k := m.Keep()
	if err := k.Add(at(3), 1); err != nil {
		t.Fatal(err)
	}
	if err := m.Unplug(at(2), 2*page); !errors.Is(err, ErrKept) || m.Check(at(2), 2*page) != nil {
		t.Errorf("unplugged what is kept: %v", err)
	}
	before, _ := m.Used()
	if err := m.Unplug(at(4), 2*page); err != nil {
		t.Error(err)
	}
	if after, _ := m.Used(); before-after != 2*page {
		t.Errorf("unplugging two pages gave the host %d bytes", before-after)
	}
	if err := k.Add(at(4), 1); !errors.Is(err, ErrRange) {
		t.Errorf("keeping what is not there: %v", err)
	}
	k.Close()
	if err := m.Unplug(at(2), 2*page); err != nil {
		t.Error(err)
	}
	if used, _ := m.Used(); used != 0 {
		t.Errorf("%d bytes are used at the end", used)
	}
}
