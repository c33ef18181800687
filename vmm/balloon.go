package vmm

import (
	"context"

	"warder/devices/virtio/balloon"
)

func (m *Machine) addBalloon() error {
	m.balloon = balloon.New(m.mem)
	return m.addVirtio(m.balloon)
}

// MemoryStats is what a machine has in memory, in bytes.
type MemoryStats struct {
	// RAM is what the guest was started with.
	RAM uint64
	// Used is how much of the guest's memory takes memory of the host.
	Used uint64
	// Balloon is what the guest has been asked for and what it gave.
	Balloon balloon.State
}

// MemoryStats says what the machine has in memory now. It asks nothing of the
// guest.
func (m *Machine) MemoryStats() MemoryStats {
	return MemoryStats{RAM: m.cfg.Memory, Used: m.memoryUsed(), Balloon: m.balloon.State()}
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

// SetMemory asks the guest to make do with n bytes of memory: what it has above
// that it gives back as soon as it can, and it may have up to n again. The answer
// is in MemoryStats, in time. A guest may take back what it needs before it would
// run out, and one without drivers does nothing.
func (m *Machine) SetMemory(n uint64) error {
	if m.hasEnded() {
		return errEnded
	}
	m.balloon.SetTarget(m.cfg.Memory - min(n, m.cfg.Memory))
	return nil
}
