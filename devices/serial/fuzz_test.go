package serial

import (
	"bytes"
	"testing"
)

// FuzzUART has a guest make any accesses while input comes. Each pair of bytes
// is one step: bits 2:0 of the first choose the register, bit 3 a write, bits
// 5:4 the width, bit 6 input from the host instead; the second is the value.
func FuzzUART(f *testing.F) {
	f.Add([]byte("\x0b\x80\x28\x01\x0b\x03\x0a\x07\x0c\x0b\x09\x0f\x08A\x02\x00\x05\x00"))
	f.Fuzz(func(t *testing.T, steps []byte) {
		steps = steps[:min(len(steps), 4096)]
		var out bytes.Buffer
		g := newGuest(t, &out)
		var want []byte
		fed := 0
		for ; len(steps) >= 2; steps = steps[2:] {
			op, v := steps[0], steps[1]
			g.irq.count()
			if op&0x40 != 0 {
				fed += g.accept(bytes.Repeat([]byte{v}, int(v)))
				continue
			}
			reg, wide := uint64(op&7), 1<<(op>>4&3)
			p := bytes.Repeat([]byte{v}, wide)
			if op&8 == 0 {
				g.Read(reg, p)
				continue
			}
			// Only the first byte can hit the data register.
			if reg == regData && g.lcr&lcrDLAB == 0 && g.mcr&mcrLoop == 0 {
				want = append(want, v)
			}
			g.Write(reg, p)
			if g.rx.n < 0 || g.rx.n > fifoSize {
				t.Fatalf("%d bytes in the FIFO", g.rx.n)
			}
		}
		if v := g.in(regLSR); v&^(lsrDR|lsrOE|lsrTHRE|lsrTEMT) != 0 {
			t.Errorf("LSR is %#x", v)
		}
		if err := g.Close(); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(out.Bytes(), want) {
			t.Errorf("%d bytes came out, want %d", out.Len(), len(want))
		}
		if s := g.Stats(); s.Received != uint64(fed) || s.Dropped != 0 {
			t.Errorf("stats %+v after %d bytes of input", s, fed)
		}
	})
}
