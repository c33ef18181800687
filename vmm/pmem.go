package vmm

import (
	"fmt"

	"golang.org/x/sys/unix"

	"warder/devices/guestmem"
	"warder/devices/virtio/blk"
	"warder/devices/virtio/pmem"
	"warder/kvm"
)

// A Pmem is a file that the guest has as memory, /dev/pmem0 and on: it reads it in
// the host's page cache, which all machines with that file share. It suits root file
// systems that are only read, mounted with -o ro,dax.
type Pmem struct {
	Path string
	// Writable lets the guest change the file, whose size is then to be in whole
	// 2 MiB. Nobody else may have it.
	Writable bool
}

const (
	// pmemSlot is the first memory slot of the files; RAM has those before.
	pmemSlot = 64
	// maxGuestPhys is the end of what every arm64 host with KVM can address.
	maxGuestPhys = 1 << 40
)

func (c Config) validatePmems() (errs []error) {
	for _, p := range c.Pmems {
		if p.Path == "" {
			errs = append(errs, fmt.Errorf("persistent memory without a path"))
		}
	}
	return errs
}

// addPmems puts the files into the guest's address space, above all RAM that there
// is or can be, one after the other.
func (m *Machine) addPmems() error {
	h := m.cfg.hotplug()
	base := guestmem.Addr(alignUp(uint64(h.Base)+h.Size, pmemBaseAlign))
	for _, p := range m.cfg.Pmems {
		size, err := m.addPmem(p, base)
		if err != nil {
			return fmt.Errorf("persistent memory %s: %w", p.Path, err)
		}
		base += guestmem.Addr(size)
	}
	return nil
}

// addPmem adds one file at base and returns how many bytes of the guest's address
// space it takes.
func (m *Machine) addPmem(p Pmem, base guestmem.Addr) (uint64, error) {
	file, err := blk.OpenFile(p.Path, !p.Writable)
	if err != nil {
		return 0, err
	}
	m.onClose(file.Close)
	fileSize := alignUp(uint64(file.Size()), uint64(unix.Getpagesize()))
	size := alignUp(fileSize, pmemAlign)
	if p.Writable && uint64(file.Size()) != size {
		return 0, fmt.Errorf("has %d bytes; to be written to it needs whole %d MiB: truncate -s %%%d %s", file.Size(), pmemAlign/mib, pmemAlign, p.Path)
	}
	if size > maxGuestPhys-uint64(base) {
		return 0, fmt.Errorf("is too large: the guest has %d GiB of addresses left", (maxGuestPhys-uint64(base))/gib)
	}
	if err := m.mapPmem(file, base, fileSize, p.Writable); err != nil {
		return 0, err
	}
	if size > fileSize {
		// The rest of the last section reads as zeros.
		if err := m.mapPmem(nil, base+guestmem.Addr(fileSize), size-fileSize, false); err != nil {
			return 0, err
		}
	}
	// For who inspects the guest; devices neither read nor write it, and refuse
	// buffers there.
	if err := m.mem.Attach(base, size, file); err != nil {
		return 0, err
	}
	cfg := pmem.Config{Base: base, Size: size, Log: m.log.With("pmem", p.Path)}
	if p.Writable {
		cfg.Sync = file.Sync // of what was written through a mapping too, fsync(2)
	}
	return size, m.addVirtio(pmem.New(cfg))
}

// mapPmem makes n bytes of the file, zeros without one, a memory slot. Writes of
// the guest to one that is only read exit and go nowhere.
func (m *Machine) mapPmem(file *blk.File, base guestmem.Addr, n uint64, writable bool) error {
	prot, flags, slotFlags := unix.PROT_READ, unix.MAP_SHARED|unix.MAP_NORESERVE, uint32(kvm.MemReadOnly)
	if writable {
		prot |= unix.PROT_WRITE
		slotFlags = 0
	}
	fd := -1
	if file != nil {
		fd = int(file.Fd())
	} else {
		flags = unix.MAP_PRIVATE | unix.MAP_ANONYMOUS | unix.MAP_NORESERVE
	}
	b, err := unix.Mmap(fd, 0, int(n), prot, flags)
	if err != nil {
		return fmt.Errorf("map %d MiB: %w", n/mib, err)
	}
	m.onClose(func() error { return unix.Munmap(b) })
	slot := uint32(pmemSlot + m.pmemSlots)
	m.pmemSlots++
	return m.vm.SetMemory(kvm.MemoryRegion{Slot: slot, Flags: slotFlags, GuestPhys: uint64(base), Size: n, Memory: b})
}
