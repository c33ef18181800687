package vmm

import "time"

// pacePeriod is in how long a machine gets its CPUMax once, as cpu.max has it.
const pacePeriod = 100 * time.Millisecond

// paceLook is the least time between two looks at what was used.
const paceLook = time.Millisecond

// pace keeps the vCPUs within CPUMax until the machine ends: when they have used
// what a period gives, they stand still until the next.
//
// The kernel's own bound (cpu.max) stops a thread wherever it is, also while it
// holds a lock that others in this process wait for, and holds up the garbage
// collector. Between two exits a vCPU holds nothing.
func (m *Machine) pace() {
	perPeriod := time.Duration(m.cfg.CPUMax * float64(pacePeriod))
	timer := time.NewTimer(0)
	defer timer.Stop()
	// sleep reports whether the machine still runs.
	sleep := func(d time.Duration) bool {
		timer.Reset(d)
		select {
		case <-timer.C:
			return true
		case <-m.ending:
			return false
		}
	}
	used, left := m.vcpuTime(), time.Duration(0)
	for {
		end := time.Now().Add(pacePeriod)
		left = min(left, 0) + perPeriod // what was used too much is missing now
		for left > 0 && time.Until(end) > 0 {
			// At the earliest all vCPUs together use it up.
			soonest := max(left/time.Duration(len(m.vcpus)), paceLook)
			if !sleep(min(soonest, time.Until(end))) {
				return
			}
			now := m.vcpuTime()
			left -= now - used
			used = now
		}
		if left > 0 {
			continue
		}
		gate := make(chan struct{})
		for _, v := range m.vcpus {
			select {
			case v.ctl <- func() { v.stand(gate) }:
				v.kick()
			case <-m.ending:
				return
			}
		}
		began := time.Now()
		more := sleep(time.Until(end))
		close(gate)
		m.throttled.Add(int64(time.Since(began)))
		if !more {
			return
		}
	}
}

// vcpuTime is the CPU time that all vCPUs' threads have used.
func (m *Machine) vcpuTime() (total time.Duration) {
	for _, t := range m.CPUTime() {
		total += t
	}
	return total
}
