package vmm

import (
	"warder/devices/eventfd"
	"warder/kvm"
)

// pulser is what pulses a shared peripheral interrupt: an eventfd, whose writing KVM takes
// for an edge at once.
func (m *Machine) pulser(gsi uint32) (func() error, error) {
	e, err := eventfd.New()
	if err != nil {
		return nil, err
	}
	m.onClose(e.Close)
	return e.Signal, m.vm.IRQFD(kvm.IRQFD{FD: e.FD(), GSI: gsi})
}
