package bus

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

// probe remembers the accesses it got.
type probe struct{ got []access }

type access struct {
	Off   uint64
	Len   int
	Write bool
}

func (d *probe) Read(off uint64, p []byte)  { d.got = append(d.got, access{off, len(p), false}) }
func (d *probe) Write(off uint64, p []byte) { d.got = append(d.got, access{off, len(p), true}) }

func TestRouting(t *testing.T) {
	var b Bus
	var low, high, top probe
	for _, d := range []struct {
		base, size uint64
		dev        *probe
	}{{0x1000, 0x100, &low}, {0x1100, 8, &high}, {^uint64(0) - 7, 8, &top}} {
		if err := b.Add(d.base, d.size, d.dev); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		addr uint64
		n    int
		want *probe
		off  uint64
	}{
		{0x0fff, 1, nil, 0},
		{0x1000, 4, &low, 0},
		{0x10ff, 1, &low, 0xff},
		{0x10fe, 4, nil, 0}, // spans two devices
		{0x1100, 8, &high, 0},
		{0x1104, 8, nil, 0}, // reaches past the end
		{0x1108, 1, nil, 0},
		{^uint64(0), 1, &top, 7},
		{^uint64(0), 2, nil, 0}, // wraps
		{0, 1, nil, 0},
	} {
		for _, write := range []bool{false, true} {
			low, high, top = probe{}, probe{}, probe{}
			do := b.Read
			if write {
				do = b.Write
			}
			if ok := do(c.addr, make([]byte, c.n)); ok != (c.want != nil) {
				t.Errorf("%#x+%d: handled %v", c.addr, c.n, ok)
			}
			if c.want == nil {
				if n := len(low.got) + len(high.got) + len(top.got); n != 0 {
					t.Errorf("%#x+%d: %d devices were reached", c.addr, c.n, n)
				}
				continue
			}
			if diff := cmp.Diff([]access{{c.off, c.n, write}}, c.want.got); diff != "" {
				t.Errorf("%#x+%d: %s", c.addr, c.n, diff)
			}
		}
	}
}

func TestAddRefusesOverlap(t *testing.T) {
	var b Bus
	if err := b.Add(0x1000, 0x100, &probe{}); err != nil {
		t.Fatal(err)
	}
	for _, r := range [][2]uint64{
		{0x1000, 0x100}, {0x10ff, 1}, {0xf00, 0x101}, {0x1010, 1}, {0, ^uint64(0)}, {0x2000, 0}, {^uint64(0), 2},
	} {
		if b.Add(r[0], r[1], &probe{}) == nil {
			t.Errorf("%#x+%#x was added", r[0], r[1])
		}
	}
	for _, r := range [][2]uint64{{0xf00, 0x100}, {0x1100, 1}, {^uint64(0), 1}} {
		if err := b.Add(r[0], r[1], &probe{}); err != nil {
			t.Error(err)
		}
	}
}
