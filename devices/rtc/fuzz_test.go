package rtc

import (
	"testing"
	"time"
)

// FuzzCMOS sets any register to anything: the clock must go on.
func FuzzCMOS(f *testing.F) {
	f.Add([]byte{cmosB, cmosBSet, cmosYear, 0xff, CenturyRegister, 0xff, cmosMonth, 0, cmosB, 0}, int64(1<<32))
	f.Fuzz(func(t *testing.T, writes []byte, now int64) {
		writes = writes[:min(len(writes), 512)]
		h := &hands{time.Unix(now&(1<<33-1), 0)} // to 2242: a Duration spans 292 years
		c := NewCMOS(h.now)
		for ; len(writes) >= 2; writes = writes[2:] {
			cmosOut(c, writes[0], writes[1])
			h.wait(time.Second)
			for reg := range byte(cmosCount) {
				cmosIn(c, reg)
			}
		}
		if v := cmosIn(c, cmosA); v&0x80 != 0 {
			t.Errorf("status A is %#x", v)
		}
		// Whatever was done, a clock that is set right tells the time again.
		for _, w := range [][2]byte{
			{cmosB, cmosBSet | cmosB24Hours},
			{cmosSeconds, 0x01}, {cmosMinutes, 0x02}, {cmosHours, 0x03},
			{cmosDay, 0x04}, {cmosMonth, 0x05}, {cmosYear, 0x26}, {CenturyRegister, 0x20},
			{cmosB, cmosB24Hours},
		} {
			cmosOut(c, w[0], w[1])
		}
		want := time.Date(2026, 5, 4, 3, 2, 1, 0, time.UTC)
		if got := c.fields(); got[cmosDay] != 0x04 || got[cmosYear] != 0x26 || got[CenturyRegister] != 0x20 {
			t.Errorf("set to %v from %v, the day reads %x.%x.%x%x", want, h.t,
				got[cmosDay], got[cmosMonth], got[CenturyRegister], got[cmosYear])
		}
	})
}

// FuzzPL031 makes any access anywhere.
func FuzzPL031(f *testing.F) {
	f.Add(uint64(pl031LR), []byte{1, 2, 3, 4})
	f.Fuzz(func(t *testing.T, off uint64, p []byte) {
		r := NewPL031(func() time.Time { return start })
		r.Write(off, p)
		r.Read(off, p)
		if got, want := plIn(r, pl031DR), uint32(start.Unix())+r.offset; got != want {
			t.Errorf("the time is %d, want %d", got, want)
		}
	})
}
