package power

import (
	"sync"

	"warder/devices/irq"
)

// GEDSize is the length in bytes of the event register.
const GEDSize = 1

// EventPowerButton is the event register's bit for a press of the power button,
// which the DSDT's _EVT method looks for.
const EventPowerButton = 1 << 0

// GED is the register behind an ACPI generic event device (ACPI 6.5, section
// 5.6.9): it holds the events since it was last read, and its interrupt makes
// the guest read it. It is a bus.Device of GEDSize bytes, safe for concurrent
// use.
type GED struct {
	line irq.Line

	mu     sync.Mutex
	events byte
}

// NewGED returns an event register without events.
func NewGED(line irq.Line) *GED { return &GED{line: line} }

// Press presses the power button.
func (g *GED) Press() error {
	g.mu.Lock()
	g.events |= EventPowerButton
	g.mu.Unlock()
	return g.line.Pulse()
}

// Read implements bus.Device. It clears what it returns.
func (g *GED) Read(off uint64, p []byte) {
	clear(p)
	if off != 0 || len(p) == 0 {
		return
	}
	g.mu.Lock()
	p[0], g.events = g.events, 0
	g.mu.Unlock()
}

// Write implements bus.Device: the register is read-only.
func (*GED) Write(uint64, []byte) {}
