package vmm

import (
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// checkBootCPUs refuses a number of CPUs to boot with that there are not.
func (c Config) checkBootCPUs() error {
	if c.BootCPUs < 0 || c.BootCPUs > c.CPUs {
		return fmt.Errorf("%d CPUs to boot with: give 1 to %d, what the machine has", c.BootCPUs, c.CPUs)
	}
	return nil
}

// cmdline is the kernel's command line with what the machine adds to it.
func (c Config) cmdline() string {
	line := c.Cmdline
	if c.BootCPUs != 0 && c.BootCPUs != c.CPUs {
		line += fmt.Sprintf(" maxcpus=%d", c.BootCPUs)
	}
	if c.MemoryMax > c.Memory {
		// As much of what is plugged as the rest can bear is for what can be
		// moved, so that it can be unplugged again
		// (Documentation/admin-guide/mm/memory-hotplug.rst).
		line += " memory_hotplug.online_policy=auto-movable"
	}
	return line
}

// CPUTime is how long each vCPU's thread has been running on the host, in the
// guest and for it, by the vCPU's number. A vCPU that its guest has taken off
// line, or that has nothing to do, waits inside KVM and takes no more: this is
// the host's own account, whatever the guest says.
func (m *Machine) CPUTime() []time.Duration {
	times := make([]time.Duration, len(m.vcpus))
	for i, v := range m.vcpus {
		times[i] = v.cpuTime()
	}
	return times
}

func (v *VCPU) cpuTime() time.Duration {
	v.thread.Lock()
	defer v.thread.Unlock()
	if v.thread.id != 0 {
		v.thread.spent = threadTime(v.thread.id)
	}
	return v.thread.spent
}

// CPUDelay is how long each vCPU's thread has waited for a CPU of the host since its
// start, by the vCPU's number; 0 where the kernel does not tell, and when the machine
// has ended.
func (m *Machine) CPUDelay() []time.Duration {
	delays := make([]time.Duration, len(m.vcpus))
	for i, v := range m.vcpus {
		v.thread.Lock()
		if v.thread.id != 0 {
			delays[i] = threadDelay(v.thread.id)
		}
		v.thread.Unlock()
	}
	return delays
}

// threadDelay reads the second number of a thread's schedstat
// (Documentation/scheduler/sched-stats.rst).
func threadDelay(tid int) time.Duration {
	b, err := os.ReadFile(fmt.Sprintf("/proc/self/task/%d/schedstat", tid))
	if err != nil {
		return 0
	}
	var ran, waited int64
	if _, err := fmt.Sscan(string(b), &ran, &waited); err != nil {
		return 0
	}
	return time.Duration(waited)
}

// threadTime is the CPU time of a thread of this process, by the clock that the
// kernel makes of its id (MAKE_THREAD_CPUCLOCK, include/linux/posix-timers_types.h).
func threadTime(tid int) time.Duration {
	const sched, perThread = 2, 4 // CPUCLOCK_SCHED, CPUCLOCK_PERTHREAD_MASK
	var ts unix.Timespec
	if err := unix.ClockGettime(int32(^tid<<3|sched|perThread), &ts); err != nil {
		return 0
	}
	return time.Duration(ts.Nano())
}
