package vmm

import "testing"

// The values are those of the Intel SDM, volume 3B, 18.2.4.
func TestDR7(t *testing.T) {
	for _, c := range []struct {
		w    []Watchpoint
		want uint64
	}{
		{nil, 0x400},
		{[]Watchpoint{{0, 1, Execute}}, 0x402},
		{[]Watchpoint{{0, 1, Execute}, {0, 4, Write}}, 0x402 | 0x8 | 0xd<<20},
		{[]Watchpoint{{0, 8, ReadWrite}, {0, 2, ReadWrite}, {0, 1, Write}, {0, 1, Execute}}, 0x400 | 0xaa | 0xb<<16 | 0x7<<20 | 0x1<<24},
	} {
		if got := dr7(c.w); got != c.want {
			t.Errorf("%+v: %#x, want %#x", c.w, got, c.want)
		}
	}
}

func TestFlagSaved(t *testing.T) {
	for code, want := range map[[2]byte]savedFlag{
		{0x9c, 0x90}: savedOnStack, {0x66, 0x9c}: savedOnStack, {0x0f, 0x05}: savedInR11, {0x90, 0x9c}: savedNowhere, {0x0f, 0x07}: savedNowhere,
	} {
		if got := flagSaved(code); got != want {
			t.Errorf("% x: %d, want %d", code, got, want)
		}
	}
}

func TestTags(t *testing.T) {
	for short, full := range map[byte]uint64{0: 0xffff, 0xff: 0, 0x81: 0x3ffc} {
		if got := fullTags(short); got != full {
			t.Errorf("%#x: %#x, want %#x", short, got, full)
		}
		if got := shortTags(full); got != short {
			t.Errorf("%#x: %#x, want %#x", full, got, short)
		}
	}
	if shortTags(0x5555) != 0xff { // all zero, not empty
		t.Error("registers that hold zero are not in use")
	}
}
