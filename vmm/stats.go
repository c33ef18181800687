package vmm

import (
	"sync/atomic"
	"time"

	"warder/devices/virtio/blk"
	"warder/devices/virtio/mmio"
	"warder/kvm"
)

// Stats is what a machine has done since its start. Counters only grow.
type Stats struct {
	// Exits counts returns to user space by KVM's exit reason, over all vCPUs.
	Exits map[string]uint64
	// Kicks counts returns because somebody wanted something of a vCPU.
	Kicks uint64
	// CPUTime is how long each vCPU has been running, see [Machine.CPUTime].
	CPUTime []time.Duration
	// DeviceTime is the CPU time that the workers of the devices have taken. It is
	// measured with Config.CPUMax alone.
	DeviceTime time.Duration
	// Throttled is how long the machine has stood still for Config.CPUMax.
	Throttled time.Duration
	// Traps counts hooks that were handed to the trap function.
	Traps uint64
	// MemoryUsed is how much of the guest's RAM takes host memory, in bytes.
	MemoryUsed uint64
	// WatchdogExpiries counts how often the guest's watchdog ran out.
	WatchdogExpiries uint64
	// Devices are the virtio devices by the order of their addresses.
	Devices []DeviceStats
}

// maxExitReason bounds the reasons counted one by one; KVM has 42 today.
// Anything beyond counts as the last.
const maxExitReason = 64

type vcpuStats struct {
	exits [maxExitReason]atomic.Uint64
	kicks atomic.Uint64
	traps atomic.Uint64
}

func (s *vcpuStats) count(reason uint32) { s.exits[min(reason, maxExitReason-1)].Add(1) }

// DeviceStats is one virtio device's part of [Stats].
type DeviceStats struct {
	Name string
	mmio.Stats
	Disk *blk.Stats // of a disk: what became of the requests on the host
}

// Stats counts what the machine has done so far. It may be called at any time,
// also after the machine's end.
func (m *Machine) Stats() Stats {
	s := Stats{Exits: map[string]uint64{}, CPUTime: m.CPUTime()}
	for _, v := range m.vcpus {
		for reason := range v.stats.exits {
			if n := v.stats.exits[reason].Load(); n > 0 {
				s.Exits[kvm.ExitReason(reason).String()] += n
			}
		}
		s.Kicks += v.stats.kicks.Load()
		s.Traps += v.stats.traps.Load()
	}
	for i, t := range m.virtio {
		d := DeviceStats{Name: t.Name(), Stats: t.Stats()}
		if i < len(m.disks) { // they come first
			disk := m.disks[i].Stats()
			d.Disk = &disk
		}
		s.Devices = append(s.Devices, d)
	}
	s.DeviceTime = m.deviceTime()
	s.Throttled = time.Duration(m.throttled.Load())
	s.WatchdogExpiries = m.expiries.Load()
	s.MemoryUsed = m.memoryUsed()
	return s
}
