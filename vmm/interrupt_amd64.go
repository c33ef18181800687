package vmm

// pulser is what pulses a pin of the I/O APIC: KVM is told both levels. Through an irqfd
// it would have a thread of the kernel's tell them, for the controllers of a PC take locks
// that whoever writes an eventfd may not wait for (docs/decisions/0049).
func (m *Machine) pulser(gsi uint32) (func() error, error) {
	return func() error {
		if err := m.vm.IRQLine(gsi, true); err != nil {
			return err
		}
		return m.vm.IRQLine(gsi, false)
	}, nil
}
