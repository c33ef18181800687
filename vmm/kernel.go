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
	kernel, err := boot.OpenInto(m.cfg.Kernel, filepath.Join(cache, "vmlinux"), m.placeKernel)
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
	m.hugePages(ramBase+guestmem.Addr(kernel.Segments[0].Addr), kernel.Size)
	for _, s := range segments {
		if err := m.place(s); err != nil {
			return fmt.Errorf("%d bytes at guest address %#x do not fit %d MiB of memory: %w",
				len(s.Data), s.Addr, m.cfg.Memory/mib, err)
		}
	}
	m.cfg.Initrd = nil // the guest has it; a copy here would stay as long as the machine
	return nil
}

// placeKernel is where a part of the kernel is read to: its place in guest
// memory, unless it has none, of which whoever lays out the guest complains.
func (m *Machine) placeKernel(addr, n uint64) []byte {
	b, err := m.mem.Slice(ramBase+guestmem.Addr(addr), n)
	if err != nil {
		return make([]byte, n)
	}
	m.hugePages(ramBase+guestmem.Addr(addr), n)
	return b
}

// place puts a segment into guest memory, if it is not there already.
func (m *Machine) place(s boot.Segment) error {
	b, err := m.mem.Slice(guestmem.Addr(s.Addr), uint64(len(s.Data)))
	if err != nil || len(b) == 0 || &b[0] == &s.Data[0] {
		return err
	}
	if len(b) >= guestmem.HugePage {
		m.hugePages(guestmem.Addr(s.Addr), uint64(len(b)))
	}
	copy(b, s.Data)
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
