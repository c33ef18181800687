package vmm

import (
	"fmt"
	"path/filepath"
	"runtime"

	"warder/boot"
	"warder/devices/guestmem"
)

// loadKernel puts the kernel and all that it is handed into guest memory, and
// vCPU 0 at its entry.
func (m *Machine) loadKernel() error {
	cache, err := boot.CacheDir()
	if err != nil {
		return err
	}
	kernel, err := boot.Open(m.cfg.Kernel, filepath.Join(cache, "vmlinux"))
	if err != nil {
		return err
	}
	if kernel.Arch != runtime.GOARCH {
		return fmt.Errorf("%s is a kernel for %s, and this host is %s", m.cfg.Kernel, kernel.Arch, runtime.GOARCH)
	}
	segments, err := m.archLoad(kernel)
	if err != nil {
		return err
	}
	for _, s := range segments {
		if err := m.mem.WriteAt(s.Data, guestmem.Addr(s.Addr)); err != nil {
			return fmt.Errorf("%d bytes at guest address %#x do not fit %d MiB of memory: %w",
				len(s.Data), s.Addr, m.cfg.Memory/mib, err)
		}
	}
	return nil
}

// bootRanges are the machine's RAM ranges as boot wants them.
func (m *Machine) bootRanges() []boot.Range {
	var rs []boot.Range
	for _, r := range ram(m.cfg.Memory) {
		rs = append(rs, boot.Range{Base: uint64(r.Base), Size: r.Size})
	}
	return rs
}
