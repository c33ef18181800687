package vmm

import (
	"errors"
	"slices"
	"testing"
)

func TestWatchpointsAreSplit(t *testing.T) {
	for _, w := range []Watchpoint{
		{0x1000, 1, Write}, {0x1000, 8, Write}, {0x1001, 2, ReadWrite}, {0x1003, 10, Write}, {0x1007, 1, Write}, {0xffffffff81000ffd, 16, Write},
	} {
		parts, err := w.split()
		if err != nil {
			t.Errorf("%+v: %v", w, err)
			continue
		}
		at := w.Addr
		for _, p := range parts {
			if p.Addr != at || p.Len == 0 || p.Addr/8 != (p.Addr+p.Len-1)/8 || p.Access != w.Access {
				t.Errorf("%+v became %+v", w, parts)
			}
			at += p.Len
		}
		if at != w.Addr+w.Len {
			t.Errorf("%+v became %+v", w, parts)
		}
	}
	parts, err := Watchpoint{0x1001, 4, Execute}.split()
	if want := []Watchpoint{{0x1001, 1, Execute}}; err != nil || !slices.Equal(parts, want) {
		t.Errorf("a breakpoint became %+v, %v", parts, err)
	}
	for _, w := range []Watchpoint{{0x1000, 0, Write}, {0x1000, maxWatched + 1, Write}, {^uint64(0), 2, Write}} {
		if _, err := w.split(); err == nil {
			t.Errorf("%+v was taken", w)
		} else if _, ok := errors.AsType[*LimitError](err); !ok {
			t.Errorf("%+v: %v", w, err)
		}
	}
}

// An access is named by the watchpoint that it was of, or was next to.
func TestWatchedAt(t *testing.T) {
	all := []Watchpoint{{0x2000, 1, Execute}, {0x1000, 4, Write}, {0x1010, 8, ReadWrite}}
	for va, want := range map[uint64]uint64{0x1000: 0x1000, 0x1003: 0x1000, 0x1017: 0x1010, 0xff8: 0x1000, 0x1008: 0x1000, 0x100e: 0x1010} {
		if w, ok := watchedAt(all, va); !ok || w.Addr != want {
			t.Errorf("%#x: %+v, %v", va, w, ok)
		}
	}
	for _, va := range []uint64{0x2000, 0, ^uint64(0)} {
		if w, ok := watchedAt(all, va); ok {
			t.Errorf("%#x: %+v", va, w)
		}
	}
}
