package vmm

import (
	"errors"
	"fmt"

	"warder/kvm"
)

// openHalts opens what KVM counts of the vCPUs. A vCPU that runs could not be
// asked for it any more.
func (m *Machine) openHalts() error {
	if n, err := m.vm.Check(kvm.CapBinaryStatsFD); err != nil || n == 0 {
		return err
	}
	for _, v := range m.vcpus {
		s, err := v.fd.OpenStats()
		if err != nil {
			return err
		}
		m.onClose(s.Close)
		v.counted = s
	}
	return nil
}

// Halts is how often the vCPUs have had nothing to do and said so, by HLT, WFI or
// WFE: each time that KVM saw it, which it handles itself. The error wraps
// [errors.ErrUnsupported] where the host's kernel does not count, before Linux 5.14.
func (m *Machine) Halts() (n uint64, err error) {
	for _, v := range m.vcpus {
		known := false
		for _, name := range haltCounters {
			if v.counted == nil {
				break
			}
			c, ok, err := v.counted.Counter(name)
			if err != nil {
				return n, fmt.Errorf("vmm: halts: %w", err)
			}
			n, known = n+c, known || ok
		}
		if !known {
			return 0, fmt.Errorf("vmm: halts: %w", errors.ErrUnsupported)
		}
	}
	return n, nil
}
