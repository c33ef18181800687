package power

import (
	"testing"
	"testing/synctest"
	"time"
)

const keyLine, keyBit = 3, 1 << 3

// gpio is the driver's side of a PL061.
type gpio struct {
	*PL061
	line *counter
}

func newGPIO() gpio {
	line := new(counter)
	return gpio{NewPL061(line, keyLine), line}
}

func (g gpio) in(off uint64) byte {
	var p [4]byte
	g.Read(off, p[:])
	return p[0]
}

func (g gpio) out(off uint64, v byte) { g.Write(off, []byte{v, 0, 0, 0}) }

// data is the address at which the data register shows the lines in mask.
func data(mask byte) uint64 { return uint64(mask) << 2 }

func press(t *testing.T, g gpio) {
	t.Helper()
	if err := g.Press(); err != nil {
		t.Fatal(err)
	}
}

// TestPL061ID is what the AMBA bus matches gpio-pl061's driver by.
func TestPL061ID(t *testing.T) {
	g := newGPIO()
	var id, cell uint32
	for i := range uint64(4) {
		id |= uint32(g.in(pl061ID+4*i)) << (8 * i)
		cell |= uint32(g.in(pl061ID+0x10+4*i)) << (8 * i)
	}
	if id != 0x00041061 || cell != 0xb105f00d {
		t.Errorf("ids %#08x, %#08x, want 0x00041061, 0xb105f00d", id, cell)
	}
}

// TestPowerKeyEdge is a driver that waits for a rising edge, as Linux' GPIO
// character device does.
func TestPowerKeyEdge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGPIO()
		g.out(pl061IEV, keyBit)
		g.out(pl061IE, keyBit)
		press(t, g)
		if g.line.n != 1 {
			t.Fatalf("%d interrupts for a press, want 1", g.line.n)
		}
		if v := g.in(pl061MIS); v != keyBit {
			t.Errorf("MIS is %#x, want %#x", v, keyBit)
		}
		if v := g.in(data(0xff)); v != keyBit {
			t.Errorf("the lines are %#x while the key is down", v)
		}
		g.out(pl061IC, keyBit)
		if v := g.in(pl061MIS); v != 0 || g.line.n != 1 {
			t.Errorf("MIS is %#x after it was cleared, %d interrupts", v, g.line.n)
		}
		time.Sleep(2 * keyHold)
		if v := g.in(data(0xff)); v != 0 {
			t.Errorf("the lines are %#x after the key went up", v)
		}
		if g.line.n != 1 {
			t.Errorf("%d interrupts, want none for the falling edge", g.line.n)
		}
		press(t, g)
		if g.line.n != 2 {
			t.Errorf("%d interrupts after a second press, want 2", g.line.n)
		}
	})
}

func TestPowerKeyBothEdges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGPIO()
		g.out(pl061IBE, keyBit)
		g.out(pl061IE, keyBit)
		press(t, g)
		g.out(pl061IC, keyBit)
		time.Sleep(2 * keyHold)
		if v := g.in(pl061MIS); v != keyBit || g.line.n != 2 {
			t.Errorf("MIS %#x, %d interrupts after press and release", v, g.line.n)
		}
	})
}

// TestPowerKeyLevel checks that a level seen through an edge-triggered line is
// told again as long as it lasts.
func TestPowerKeyLevel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGPIO()
		g.out(pl061IS, keyBit)
		g.out(pl061IEV, keyBit)
		press(t, g)
		if g.line.n != 0 {
			t.Fatal("an interrupt while masked")
		}
		g.out(pl061IE, keyBit)
		if g.line.n != 1 {
			t.Fatalf("%d interrupts when unmasked, want 1", g.line.n)
		}
		g.out(pl061IC, keyBit)
		if g.line.n != 2 {
			t.Errorf("%d interrupts: clearing a level that lasts must tell it again", g.line.n)
		}
		time.Sleep(2 * keyHold)
		g.out(pl061IC, keyBit)
		if g.line.n != 2 || g.in(pl061RIS) != 0 {
			t.Errorf("%d interrupts, RIS %#x after the level has gone", g.line.n, g.in(pl061RIS))
		}
	})
}

// TestPressAgain holds the key from the latest press on.
func TestPressAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGPIO()
		press(t, g)
		time.Sleep(keyHold / 2)
		press(t, g)
		time.Sleep(keyHold * 3 / 4)
		if g.in(data(keyBit)) == 0 {
			t.Error("the first press' end let the key go")
		}
		time.Sleep(keyHold)
		if g.in(data(keyBit)) != 0 {
			t.Error("the key stays down")
		}
	})
}

func TestClosedPL061IsSilent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGPIO()
		g.out(pl061IBE, keyBit)
		g.out(pl061IE, keyBit)
		press(t, g)
		if err := g.Close(); err != nil {
			t.Fatal(err)
		}
		n := g.line.n
		time.Sleep(2 * keyHold)
		press(t, g)
		if g.line.n != n {
			t.Errorf("%d interrupts after Close", g.line.n-n)
		}
	})
}

func TestPL061Outputs(t *testing.T) {
	g := newGPIO()
	g.out(pl061Dir, 0xf0)
	g.out(data(0x3f), 0xff)
	if v := g.in(data(0xff)); v != 0x30 {
		t.Errorf("the lines are %#x, want what was driven through direction and mask, 0x30", v)
	}
	if v := g.in(data(0x10)); v != 0x10 {
		t.Errorf("masked lines are %#x, want 0x10", v)
	}
	for _, off := range []uint64{pl061IS, pl061IBE, pl061IEV, pl061IE, pl061Dir, pl061AFSEL} {
		g.out(off, 0x5a)
		if v := g.in(off); v != 0x5a {
			t.Errorf("register %#x reads %#x, want 0x5a", off, v)
		}
	}
}

// FuzzPL061 makes any accesses, with the key pressed now and then. Each step is
// three bytes: the register's word (two), then the value.
func FuzzPL061(f *testing.F) {
	f.Add([]byte{0x01, 0x03, keyBit, 0x01, 0x04, keyBit, 0xff, 0xff, 0, 0x01, 0x07, keyBit})
	f.Fuzz(func(t *testing.T, steps []byte) {
		g := newGPIO()
		defer func() { _ = g.Close() }()
		n := 0
		steps = steps[:min(len(steps), 3*256)] // done long before the key goes up
		for ; len(steps) >= 3; steps = steps[3:] {
			off, v := uint64(steps[0])<<10|uint64(steps[1])<<2, steps[2]
			n++
			if off >= PL061Size && v&1 == 0 {
				press(t, g)
				continue
			}
			g.out(off, v)
			g.in(off)
			if mis, ris, ie := g.in(pl061MIS), g.in(pl061RIS), g.in(pl061IE); mis != ris&ie {
				t.Fatalf("MIS %#x is not RIS %#x with mask %#x", mis, ris, ie)
			}
		}
		if g.line.n > n {
			t.Errorf("%d interrupts from %d steps", g.line.n, n)
		}
	})
}
