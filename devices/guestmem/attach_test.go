package guestmem

import (
	"bytes"
	"errors"
	"math"
	"strings"
	"testing"
)

func TestAttach(t *testing.T) {
	m := testMemory(t)
	const base = 0x1000000
	if err := m.Attach(base, 16, strings.NewReader("a file")); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		a    Addr
		n    int
		want string // "" for an error
	}{
		{base, 6, "a file"}, {base + 2, 4, "file"}, {base + 4, 12, "le\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"},
		{base + 4, 13, ""}, {base - 1, 2, ""}, {base + 16, 1, ""}, {math.MaxUint64, 1, ""},
	} {
		p := bytes.Repeat([]byte{0xff}, c.n)
		err := m.ReadAt(p, c.a)
		if c.want == "" {
			if !errors.Is(err, ErrRange) {
				t.Errorf("%d bytes at %#x: %v", c.n, c.a, err)
			}
		} else if err != nil || string(p) != c.want {
			t.Errorf("%d bytes at %#x: %q, %v", c.n, c.a, p, err)
		}
	}
	for a, want := range map[Addr]bool{base: true, base + 15: true, base + 16: false, base - 1: false, 0: false, math.MaxUint64: false} {
		if m.Attached(a) != want {
			t.Errorf("something attached at %#x: %v", a, !want)
		}
	}
	if err := m.Check(base, 1); !errors.Is(err, ErrRange) {
		t.Error("a file counts as RAM")
	}
	if err := m.WriteAt([]byte{1}, base); !errors.Is(err, ErrRange) {
		t.Error("a file could be written to")
	}
	if m.Attach(base, 0, nil) == nil || m.Attach(math.MaxUint64, 2, nil) == nil {
		t.Error("an attachment of nothing, or around the end, was taken")
	}
}
