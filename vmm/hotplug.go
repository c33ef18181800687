package vmm

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"warder/devices/guestmem"
	"warder/devices/virtio/mem"
)

// The region of memory that can be plugged.
const (
	// hotplugAlign is what the region starts at a multiple of: no less than any
	// block in which Linux manages memory.
	hotplugAlign = 2 * gib
	// hotplugStep is what its size is rounded up to: Linux uses whole blocks of
	// that size, 128 MiB with pages of 4 KiB, or none of it.
	hotplugStep = 128 * mib
	// minBlock is what can be plugged at a time, one of a guest's large pages.
	// Larger regions have larger blocks, at most maxBlocks: each may be a mapping
	// of the host's process, which has 65,530.
	minBlock  = 2 * mib
	maxBlocks = 4096
)

// hotplug is where memory that can be plugged is: above RAM.
func (c Config) hotplug() guestmem.Range {
	var end guestmem.Addr
	for _, r := range ram(c.Memory) {
		end = max(end, r.Base+guestmem.Addr(r.Size))
	}
	return guestmem.Range{
		Base: guestmem.Addr(alignUp(max(uint64(end), hotplugBase), hotplugAlign)),
		Size: alignUp(c.MemoryMax-c.Memory, hotplugStep),
	}
}

// blockSize is the size of the blocks of a region of n bytes.
func blockSize(n uint64) uint64 {
	block := uint64(minBlock)
	for n/block > maxBlocks {
		block *= 2
	}
	return block
}

func (c Config) checkHotplug() error {
	switch {
	case c.MemoryMax < c.Memory:
		return fmt.Errorf("at most %d MiB of memory, but %d MiB to start with", c.MemoryMax/mib, c.Memory/mib)
	case c.MemoryMax > maxMemory:
		return fmt.Errorf("up to %d MiB of memory: give %d GiB at most", c.MemoryMax/mib, maxMemory/gib)
	case (c.MemoryMax-c.Memory)%blockSize(c.MemoryMax-c.Memory) != 0:
		return fmt.Errorf("%d to %d MiB of memory: they have to be a multiple of %d MiB apart",
			c.Memory/mib, c.MemoryMax/mib, blockSize(c.MemoryMax-c.Memory)/mib)
	}
	return nil
}

// emptyHotplug takes the memory away that is still to be plugged.
func (m *Machine) emptyHotplug() error {
	h := m.cfg.hotplug()
	if err := m.mem.Hotplug(h.Base, blockSize(h.Size)); err != nil {
		return err
	}
	return m.protectSlot(h.Base, h.Size, unix.PROT_NONE)
}

func (m *Machine) addHotplug() error {
	if m.cfg.MemoryMax == m.cfg.Memory {
		return nil
	}
	h := m.cfg.hotplug()
	dev, err := mem.New(mem.Config{Memory: hotplugMemory{m}, Base: h.Base, Size: h.Size, Block: blockSize(h.Size)})
	if err != nil {
		return err
	}
	m.hotplug = dev
	return m.addVirtio(dev)
}

// hotplugMemory is the guest's memory for the device that plugs it. What is not
// plugged can't be reached by the vCPUs either: KVM_RUN fails where one tries,
// and no memory of the host is spent on it.
type hotplugMemory struct{ m *Machine }

// Plug implements mem.Memory.
func (h hotplugMemory) Plug(a guestmem.Addr, n uint64) error {
	if err := h.m.protectSlot(a, n, unix.PROT_READ|unix.PROT_WRITE); err != nil {
		return err
	}
	return h.m.mem.Plug(a, n)
}

// Unplug implements mem.Memory.
func (h hotplugMemory) Unplug(a guestmem.Addr, n uint64) error {
	if err := h.m.protectSlot(a, n, unix.PROT_NONE); err != nil {
		return err
	}
	err := h.m.mem.Unplug(a, n)
	if errors.Is(err, guestmem.ErrKept) {
		err = errors.Join(err, h.m.protectSlot(a, n, unix.PROT_READ|unix.PROT_WRITE))
	}
	return err
}

// protectSlot sets what the vCPUs may do with the n bytes at a, which are of the
// last slot.
func (m *Machine) protectSlot(a guestmem.Addr, n uint64, prot int) error {
	s := m.slots[len(m.slots)-1]
	off := uint64(a - s.base)
	if err := unix.Mprotect(s.mem[off:off+n], prot); err != nil {
		return fmt.Errorf("memory of %d MiB at %#x: %w", n/mib, a, err)
	}
	return nil
}

func alignUp(n, to uint64) uint64 { return (n + to - 1) / to * to }
