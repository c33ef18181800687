package vmm

import (
	"fmt"

	"golang.org/x/sys/unix"

	"warder/devices/guestmem"
	"warder/kvm"
)

// A slot is one range of guest RAM as KVM sees it: a mapping of its own of the
// machine's memfd. The machine's other mapping, in guestmem, is what devices
// and whoever inspects the guest go through. So protection from writes can be
// put on what the vCPUs do and never stops one of our own goroutines, which
// could then not be stopped for a garbage collection.
type slot struct {
	base guestmem.Addr
	mem  []byte
}

// end is the first address past the slot.
func (s slot) end() guestmem.Addr { return s.base + guestmem.Addr(len(s.mem)) }

func (m *Machine) createMemory() error {
	ranges := ram(m.cfg.Memory)
	if m.cfg.MemoryMax > m.cfg.Memory {
		ranges = append(ranges, m.cfg.hotplug())
	}
	mem, err := guestmem.Allocate("warder-"+m.cfg.Name, ranges...)
	if err != nil {
		return err
	}
	m.mem = mem
	m.patches = mem.Keep()
	m.onClose(mem.Close)
	var off int64
	for i, r := range mem.Regions() {
		b, err := guestmem.Map(mem.FD(), off, uint64(len(r.Bytes)))
		if err != nil {
			return fmt.Errorf("guest memory: %w", err)
		}
		m.onClose(func() error { return guestmem.Unmap(b) })
		off += int64(len(r.Bytes))
		// A core dump of the host's process is not the place for what guests
		// have in memory. Without effect, nothing is lost.
		_ = unix.Madvise(b, unix.MADV_DONTDUMP)
		if err := m.vm.SetMemory(kvm.MemoryRegion{Slot: uint32(i), GuestPhys: uint64(r.Base), Size: uint64(len(b)), Memory: b}); err != nil {
			return err
		}
		m.slots = append(m.slots, slot{r.Base, b})
	}
	if m.cfg.MemoryMax > m.cfg.Memory {
		return m.emptyHotplug()
	}
	return nil
}
