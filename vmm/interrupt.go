package vmm

import (
	"fmt"
	"sync"

	"warder/devices/eventfd"
	"warder/devices/irq"
	"warder/kvm"
)

// pin is an interrupt line that KVM pulses when its eventfd is written. While
// it is held it remembers that it was to be pulsed: an edge says that there is
// something to look at, and one says as much as several.
type pin struct {
	event *eventfd.Eventfd

	mu   sync.Mutex
	held bool
	due  bool // pulsed while held
}

// Pulse implements irq.Line.
func (p *pin) Pulse() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.held {
		p.due = true
		return nil
	}
	return p.event.Signal()
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
	return p.event.Signal()
}

// newLine makes the line of an interrupt: a pin of the I/O APIC on amd64, a shared
// peripheral interrupt on arm64.
func (m *Machine) newLine(gsi uint32) (irq.Line, error) {
	e, err := eventfd.New()
	if err != nil {
		return nil, err
	}
	m.onClose(e.Close)
	if err := m.vm.IRQFD(kvm.IRQFD{FD: e.FD(), GSI: gsi}); err != nil {
		return nil, fmt.Errorf("interrupt %d: %w", gsi, err)
	}
	p := &pin{event: e}
	m.pins = append(m.pins, p)
	return p, nil
}
