package rtc

import (
	"encoding/binary"
	"testing"
	"time"
)

// hands is a clock that the test sets.
type hands struct{ t time.Time }

func (h *hands) now() time.Time { return h.t }

func (h *hands) wait(d time.Duration) { h.t = h.t.Add(d) }

var start = time.Date(2026, time.November, 22, 21, 5, 59, 0, time.FixedZone("", 3600))

func cmosIn(c *CMOS, reg byte) byte {
	var p [1]byte
	c.Write(0, []byte{reg})
	c.Read(1, p[:])
	return p[0]
}

func cmosOut(c *CMOS, reg, v byte) {
	c.Write(0, []byte{reg})
	c.Write(1, []byte{v})
}

func TestCMOSFormats(t *testing.T) {
	for name, tt := range map[string]struct {
		b    byte
		want map[byte]byte
	}{
		"BCD, 24 hours": {cmosB24Hours, map[byte]byte{
			cmosSeconds: 0x59, cmosMinutes: 0x05, cmosHours: 0x20, cmosWeekday: 0x01,
			cmosDay: 0x22, cmosMonth: 0x11, cmosYear: 0x26, CenturyRegister: 0x20,
		}},
		"BCD, 12 hours": {0, map[byte]byte{cmosHours: 0x88, cmosMinutes: 0x05}},
		"binary, 24 hours": {cmosBBinary | cmosB24Hours, map[byte]byte{
			cmosSeconds: 59, cmosHours: 20, cmosDay: 22, cmosMonth: 11, cmosYear: 26, CenturyRegister: 20,
		}},
		"binary, 12 hours": {cmosBBinary, map[byte]byte{cmosHours: 0x80 | 8}},
	} {
		t.Run(name, func(t *testing.T) {
			h := &hands{start}
			c := NewCMOS(h.now)
			cmosOut(c, cmosB, tt.b)
			for reg, want := range tt.want {
				if got := cmosIn(c, reg); got != want {
					t.Errorf("register %#x is %#x, want %#x", reg, got, want)
				}
			}
		})
	}
}

// TestCMOSSet sets the clock as Linux' mc146818_set_time does, in each format,
// and sees it go on from there.
func TestCMOSSet(t *testing.T) {
	want := time.Date(2031, time.February, 28, 0, 30, 15, 0, time.UTC)
	for _, format := range []byte{0, cmosB24Hours, cmosBBinary, cmosB24Hours | cmosBBinary} {
		h := &hands{start}
		c := NewCMOS(h.now)
		cmosOut(c, cmosB, format|cmosBSet)
		stood := cmosIn(c, cmosSeconds)
		h.wait(time.Second)
		if v := cmosIn(c, cmosSeconds); v != stood {
			t.Errorf("format %#x: the clock went on while it was set: %#x, %#x", format, stood, v)
		}
		src := NewCMOS((&hands{want}).now)
		cmosOut(src, cmosB, format)
		for _, reg := range []byte{cmosYear, cmosMonth, cmosDay, cmosHours, cmosMinutes, cmosSeconds, CenturyRegister} {
			cmosOut(c, reg, cmosIn(src, reg))
		}
		cmosOut(c, cmosB, format)
		h.wait(36 * time.Hour)
		if got := h.now().Add(c.offset); !got.Equal(want.Add(36 * time.Hour)) {
			t.Errorf("format %#x: the clock tells %v, want %v", format, got.UTC(), want.Add(36*time.Hour))
		}
	}
}

func TestCMOSSetOneField(t *testing.T) {
	h := &hands{start}
	c := NewCMOS(h.now)
	cmosOut(c, cmosMinutes, 0x42)
	h.wait(2 * time.Second)
	if m, s := cmosIn(c, cmosMinutes), cmosIn(c, cmosSeconds); m != 0x43 || s != 0x01 {
		t.Errorf("two seconds after 42:59 it is %x:%x", m, s)
	}
}

// TestCMOSStatus holds what Linux waits for before it trusts the clock.
func TestCMOSStatus(t *testing.T) {
	c := NewCMOS((&hands{start}).now)
	cmosOut(c, cmosA, 0xff)
	if v := cmosIn(c, cmosA); v&0x80 != 0 {
		t.Errorf("status A is %#x: an update that never ends", v)
	}
	cmosOut(c, cmosC, 0xff)
	if v := cmosIn(c, cmosC); v != 0 {
		t.Errorf("status C is %#x: an interrupt that never was", v)
	}
	cmosOut(c, cmosD, 0)
	if v := cmosIn(c, cmosD); v != cmosDValid {
		t.Errorf("status D is %#x, want %#x", v, cmosDValid)
	}
}

func TestCMOSRAM(t *testing.T) {
	c := NewCMOS((&hands{start}).now)
	cmosOut(c, 0x5a, 0x77)
	if v := cmosIn(c, 0x5a|0x80); v != 0x77 {
		t.Errorf("RAM reads %#x through the NMI bit, want 0x77", v)
	}
	p := make([]byte, 4)
	c.Write(0, []byte{0x5b, 0x11, 0xff, 0xff})
	c.Read(0, p)
	if p[0] != 0xff || p[1] != 0x11 || p[2] != 0xff || p[3] != 0xff {
		t.Errorf("a wide access reads % x", p)
	}
}

func plIn(r *PL031, off uint64) uint32 {
	var p [4]byte
	r.Read(off, p[:])
	return binary.LittleEndian.Uint32(p[:])
}

func plOut(r *PL031, off uint64, v uint32) {
	r.Write(off, binary.LittleEndian.AppendUint32(nil, v))
}

func TestPL031Time(t *testing.T) {
	h := &hands{start}
	r := NewPL031(h.now)
	if got := plIn(r, pl031DR); got != uint32(start.Unix()) {
		t.Errorf("the time is %d, want %d", got, start.Unix())
	}
	plOut(r, pl031LR, 1000)
	h.wait(7 * time.Second)
	if got := plIn(r, pl031DR); got != 1007 {
		t.Errorf("the time is %d, 7 seconds after 1000", got)
	}
	if got := plIn(r, pl031LR); got != 1000 {
		t.Errorf("LR reads %d, want what was written", got)
	}
	plOut(r, pl031DR, 5)
	if got := plIn(r, pl031DR); got != 1007 {
		t.Errorf("a write of DR set the time to %d", got)
	}
	if plIn(r, pl031CR) != 1 {
		t.Error("the clock does not run")
	}
}

// TestPL031ID is what the AMBA bus matches pl031's driver by.
func TestPL031ID(t *testing.T) {
	r := NewPL031(time.Now)
	if got := ambaID(r, pl031ID); got != 0x00041031 {
		t.Errorf("peripheral id %#08x, want 0x00041031", got)
	}
	if got := ambaID(r, pl031ID+0x10); got != 0xb105f00d {
		t.Errorf("cell id %#08x, want 0xb105f00d", got)
	}
}

func ambaID(r *PL031, off uint64) (id uint32) {
	for i := range uint64(4) {
		id |= plIn(r, off+4*i) & 0xff << (8 * i)
	}
	return id
}

func TestPL031Access(t *testing.T) {
	r := NewPL031(time.Now)
	plOut(r, pl031MR, 0x44332211)
	var p [8]byte
	r.Read(pl031MR+1, p[:2])
	if p[0] != 0x22 || p[1] != 0x33 {
		t.Errorf("the middle of MR reads % x", p[:2])
	}
	r.Write(pl031MR, []byte{1, 2})
	if got := plIn(r, pl031MR); got != 0x44332211 {
		t.Errorf("half a write set MR to %#x", got)
	}
	r.Read(PL031Size-4, p[:])
	if p[4] != 0 {
		t.Errorf("an access past the registers reads % x", p)
	}
}
