package vmm

import (
	"context"
	"fmt"

	"warder/devices/virtio/balloon"
	"warder/devices/virtio/mem"
)

// MemoryStats is what a machine has in memory, in bytes. The machine's own
// account is RAM, Hotplug and Used; the balloon's is the guest's word, see there.
type MemoryStats struct {
	// RAM is what the guest was started with.
	RAM uint64
	// Hotplug is what was plugged on top of it; zero without MemoryMax.
	Hotplug mem.State
	// Balloon is what the guest has been asked to give back, and what it gave.
	Balloon balloon.State
	// Used is how much of all that takes memory of the host.
	Used uint64
}

// MemoryStats says what the machine has in memory now. It asks nothing of the
// guest.
func (m *Machine) MemoryStats() MemoryStats {
	s := MemoryStats{RAM: m.cfg.Memory, Used: m.memoryUsed(), Balloon: m.balloon.State()}
	if m.hotplug != nil {
		s.Hotplug = m.hotplug.State()
	}
	return s
}

// memoryUsed is how much of the guest's memory takes memory of the host: none
// any more, once the machine is closed.
func (m *Machine) memoryUsed() uint64 {
	m.life.Lock()
	defer m.life.Unlock()
	used, err := m.mem.Used()
	if err != nil {
		m.log.Warn("guest memory", "err", err)
	}
	return used
}

// GuestMemory asks the guest's balloon driver how the guest uses its memory, and
// waits until it has said so or ctx ends. A guest can lie.
func (m *Machine) GuestMemory(ctx context.Context) (balloon.Stats, error) {
	return m.balloon.Stats(ctx)
}

// SetMemory has the guest make do with n bytes of memory, or have up to n, at
// most MemoryMax. It asks: above Memory by plugging memory in, below by the
// balloon. [Machine.MemoryStats] tells how far the guest has come. What it gives
// back, it gives as soon as it can; before it would run out of memory it may take
// back what the balloon has. A guest without drivers does nothing.
func (m *Machine) SetMemory(n uint64) error {
	if m.hasEnded() {
		return errEnded
	}
	if n > m.cfg.MemoryMax {
		return fmt.Errorf("vmm: %s: %d MiB of memory: it was started with room for %d", m.cfg.Name, n/mib, m.cfg.MemoryMax/mib)
	}
	if m.hotplug != nil {
		m.hotplug.Request(n - min(n, m.cfg.Memory))
	}
	m.balloon.SetTarget(m.cfg.Memory - min(n, m.cfg.Memory))
	return nil
}
