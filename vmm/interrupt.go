package vmm

import (
	"fmt"
	"os"
	"sync"

	"warder/devices/irq"
)

// pin is an interrupt line. While it is held it remembers that it was to be pulsed: an
// edge says that there is something to look at, and one says as much as several.
type pin struct {
	mu    sync.Mutex
	pulse func() error // fails once the machine has gone
	held  bool
	due   bool // pulsed while held
}

// Pulse implements irq.Line.
func (p *pin) Pulse() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.held {
		p.due = true
		return nil
	}
	return p.pulse()
}

func (p *pin) hold() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.held = true
}

func (p *pin) release() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.held = false
	if !p.due {
		return nil
	}
	p.due = false
	return p.pulse()
}

// cut takes the machine away from who may pulse yet: its descriptor may soon be another
// machine's.
func (p *pin) cut() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.pulse = func() error { return os.ErrClosed }
	return nil
}

// newLine makes the line of an interrupt: a pin of the I/O APIC on amd64, a shared
// peripheral interrupt on arm64.
func (m *Machine) newLine(gsi uint32) (irq.Line, error) {
	pulse, err := m.pulser(gsi)
	if err != nil {
		return nil, fmt.Errorf("interrupt %d: %w", gsi, err)
	}
	p := &pin{pulse: pulse}
	m.onClose(p.cut)
	m.pins = append(m.pins, p)
	return p, nil
}
