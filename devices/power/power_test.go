package power

import (
	"testing"
)

// counter is an interrupt line that counts its pulses.
type counter struct{ n int }

func (c *counter) Pulse() error {
	c.n++
	return nil
}

// ends counts the callbacks.
type ends struct{ off, reset int }

func (e *ends) powerOff()  { e.off++ }
func (e *ends) resetting() { e.reset++ }

func TestACPI(t *testing.T) {
	for name, tt := range map[string]struct {
		off  uint64
		p    []byte
		want ends
	}{
		// What ACPICA's acpi_hw_extended_sleep writes for S5.
		"soft off":            {SleepControlPort - ACPIPort, []byte{SoftOffSleepType<<2 | 1<<5}, ends{off: 1}},
		"S5 without SLP_EN":   {SleepControlPort - ACPIPort, []byte{SoftOffSleepType << 2}, ends{}},
		"another sleep":       {SleepControlPort - ACPIPort, []byte{3<<2 | 1<<5}, ends{}},
		"reserved bits set":   {SleepControlPort - ACPIPort, []byte{0xff &^ (2 << 2)}, ends{off: 1}},
		"wake-up status":      {SleepStatusPort - ACPIPort, []byte{0x80}, ends{}},
		"reset":               {ResetPort - ACPIPort, []byte{ResetValue}, ends{reset: 1}},
		"another reset value": {ResetPort - ACPIPort, []byte{ResetValue + 1}, ends{}},
		"wide":                {0, []byte{0, 0, ResetValue, 0}, ends{reset: 1}},
		"past the end":        {ACPISize, []byte{ResetValue}, ends{}},
		"nothing":             {0, nil, ends{}},
	} {
		t.Run(name, func(t *testing.T) {
			var got ends
			a := NewACPI(got.powerOff, got.resetting)
			a.Write(tt.off, tt.p)
			if got != tt.want {
				t.Errorf("%+v, want %+v", got, tt.want)
			}
			p := []byte{0xff}
			a.Read(tt.off, p)
			if p[0] != 0 {
				t.Errorf("reads %#x", p[0])
			}
		})
	}
}

func TestLegacyReset(t *testing.T) {
	var got ends
	kbd, ctl := NewI8042(got.resetting), NewResetControl(got.resetting)
	kbd.Write(0, []byte{0xd1}) // write output port: A20, no reset
	ctl.Write(0, []byte{0x02}) // choose hard reset, do not reset yet
	ctl.Write(0, nil)
	kbd.Write(0, nil)
	if got.reset != 0 {
		t.Fatalf("%d resets before any was asked for", got.reset)
	}
	kbd.Write(0, []byte{0xfe})
	if got.reset != 1 {
		t.Errorf("%d resets by the keyboard controller, want 1", got.reset)
	}
	ctl.Write(0, []byte{0x0e})
	if got.reset != 2 {
		t.Errorf("%d resets with the control register's, want 2", got.reset)
	}
	// Linux waits for an empty input buffer (status bit 1) before it pulses.
	p := []byte{0xff}
	if kbd.Read(0, p); p[0]&2 != 0 {
		t.Errorf("the keyboard controller's status is %#x: busy for ever", p[0])
	}
}

func TestGED(t *testing.T) {
	var line counter
	g := NewGED(&line)
	read := func() byte {
		p := []byte{0xff, 0xff}
		g.Read(0, p)
		if p[1] != 0 {
			t.Errorf("reads %#x past the register", p[1])
		}
		return p[0]
	}
	if v := read(); v != 0 {
		t.Errorf("event %#x before any", v)
	}
	for range 2 {
		if err := g.Press(); err != nil {
			t.Fatal(err)
		}
	}
	if line.n != 2 {
		t.Errorf("%d interrupts for 2 presses", line.n)
	}
	g.Write(0, []byte{0})
	if v := read(); v != EventPowerButton {
		t.Errorf("event %#x after a press, want %#x", v, EventPowerButton)
	}
	if v := read(); v != 0 {
		t.Errorf("event %#x when it was read already", v)
	}
}
