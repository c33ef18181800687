package rtc

import (
	"sync"
	"time"
)

// CMOSSize is the length of the CMOS clock's port range: index, then data.
const CMOSSize = 2

// CenturyRegister is the index of the century in BCD or binary, for the FADT.
const CenturyRegister = 0x32

// CMOS registers by index (Motorola MC146818A data sheet, table 3).
const (
	cmosSeconds  = 0x00
	cmosMinutes  = 0x02
	cmosHours    = 0x04
	cmosWeekday  = 0x06 // 1 is Sunday
	cmosDay      = 0x07
	cmosMonth    = 0x08
	cmosYear     = 0x09 // of the century
	cmosA        = 0x0a
	cmosB        = 0x0b
	cmosC        = 0x0c // interrupt flags: none
	cmosD        = 0x0d
	cmosCount    = 0x80 // bit 7 of the index port masks the NMI
	cmosARate    = 0x26 // 32.768 kHz time base, 1024 Hz; no update in progress
	cmosDValid   = 0x80 // RAM and time are valid
	cmosB24Hours = 1 << 1
	cmosBBinary  = 1 << 2
	cmosBSet     = 1 << 7 // the guest is setting the time: it stands still
	hourPM       = 0x80   // in 12-hour mode
)

// CMOS is the PC's clock with its battery-backed RAM. It is a bus.Device of
// CMOSSize bytes, safe for concurrent use.
type CMOS struct {
	clock func() time.Time

	mu     sync.Mutex
	index  byte
	ram    [cmosCount]byte // registers with no meaning here, and B
	frozen *[cmosCount]byte
	offset time.Duration // what the guest has set the clock off by
}

// NewCMOS returns a clock that tells clock's time in UTC, 24 hours, BCD.
func NewCMOS(clock func() time.Time) *CMOS {
	c := &CMOS{clock: clock}
	c.ram[cmosA] = cmosARate
	c.ram[cmosB] = cmosB24Hours
	return c
}

// Read implements bus.Device: the data port reads the chosen register, the index
// port reads 0xff as it is write-only on a PC.
func (c *CMOS) Read(off uint64, p []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i := range p {
		p[i] = 0xff
		if off+uint64(i) == 1 {
			p[i] = c.register(c.index)
		}
	}
}

// Write implements bus.Device.
func (c *CMOS) Write(off uint64, p []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i, v := range p {
		switch off + uint64(i) {
		case 0:
			c.index = v % cmosCount
		case 1:
			c.setRegister(c.index, v)
		}
	}
}

func (c *CMOS) register(i byte) byte {
	switch {
	case isTime(i) && c.frozen != nil:
		return c.frozen[i]
	case isTime(i):
		return c.fields()[i]
	case i == cmosC:
		return 0
	case i == cmosD:
		return cmosDValid
	}
	return c.ram[i]
}

func (c *CMOS) setRegister(i, v byte) {
	switch {
	case isTime(i) && c.frozen != nil:
		c.frozen[i] = v
	case isTime(i):
		f := c.fields()
		f[i] = v
		c.set(f)
	case i == cmosA:
		c.ram[i] = v &^ 0x80 // update in progress is the clock's to say
	case i == cmosB:
		c.setB(v)
	case i == cmosC, i == cmosD:
		// Read-only.
	default:
		c.ram[i] = v
	}
}

// setB stops the clock for setting, or starts it with the time that was set.
func (c *CMOS) setB(v byte) {
	set := v&cmosBSet != 0
	if set && c.frozen == nil {
		c.frozen = new(c.fields())
	}
	c.ram[cmosB] = v
	if !set && c.frozen != nil {
		c.set(*c.frozen)
		c.frozen = nil
	}
}

func isTime(i byte) bool {
	switch i {
	case cmosSeconds, cmosMinutes, cmosHours, cmosWeekday, cmosDay, cmosMonth, cmosYear, CenturyRegister:
		return true
	}
	return false
}

// fields returns the time now in the registers that hold it.
func (c *CMOS) fields() [cmosCount]byte {
	t := c.clock().UTC().Add(c.offset)
	var f [cmosCount]byte
	f[cmosSeconds] = c.encode(t.Second())
	f[cmosMinutes] = c.encode(t.Minute())
	f[cmosHours] = c.encodeHour(t.Hour())
	f[cmosWeekday] = c.encode(int(t.Weekday()) + 1)
	f[cmosDay] = c.encode(t.Day())
	f[cmosMonth] = c.encode(int(t.Month()))
	f[cmosYear] = c.encode(t.Year() % 100)
	f[CenturyRegister] = c.encode(t.Year() / 100 % 100)
	return f
}

// set makes the clock go on from f. Fields out of range carry over, as
// time.Date has it.
func (c *CMOS) set(f [cmosCount]byte) {
	year := c.decode(f[CenturyRegister])*100 + c.decode(f[cmosYear])
	t := time.Date(year, time.Month(c.decode(f[cmosMonth])), c.decode(f[cmosDay]),
		c.decodeHour(f[cmosHours]), c.decode(f[cmosMinutes]), c.decode(f[cmosSeconds]), 0, time.UTC)
	c.offset = t.Sub(c.clock())
}

func (c *CMOS) encode(v int) byte {
	if c.ram[cmosB]&cmosBBinary != 0 {
		return byte(v)
	}
	return byte(v/10<<4 | v%10)
}

func (c *CMOS) decode(v byte) int {
	if c.ram[cmosB]&cmosBBinary != 0 {
		return int(v)
	}
	return int(v>>4)*10 + int(v&0x0f)
}

func (c *CMOS) encodeHour(h int) byte {
	if c.ram[cmosB]&cmosB24Hours != 0 {
		return c.encode(h)
	}
	v := c.encode((h+11)%12 + 1)
	if h >= 12 {
		v |= hourPM
	}
	return v
}

func (c *CMOS) decodeHour(v byte) int {
	if c.ram[cmosB]&cmosB24Hours != 0 {
		return c.decode(v)
	}
	h := c.decode(v&^hourPM) % 12
	if v&hourPM != 0 {
		h += 12
	}
	return h
}
