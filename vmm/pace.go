package vmm

import (
	"runtime"
	"time"
)

// pacePeriod is in how long a machine gets its CPUMax once, as cpu.max has it.
const pacePeriod = 100 * time.Millisecond

// paceLook is the least time between two looks at what was used.
const paceLook = time.Millisecond

// pace keeps the machine within CPUMax until it ends: when its vCPUs and the workers of
// its devices have used what a period gives, all of them stand still until there is some
// again. What was used too much is missing then.
//
// The kernel's own bound (cpu.max) stops a thread wherever it is, also while it
// holds a lock that others in this process wait for, and holds up the garbage
// collector. Between two exits a vCPU holds nothing, nor does a worker between two
// requests.
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
	// At the earliest all of them together use up what is left.
	most := time.Duration(min(len(m.vcpus)+len(m.virtio), runtime.NumCPU()))
	looked, used, left := time.Now(), m.usedTime(), time.Duration(0)
	for {
		end := looked.Add(pacePeriod)
		left = min(left, 0) + perPeriod
		for {
			if !sleep(min(max(left/most, paceLook), time.Until(end))) {
				return
			}
			looked = time.Now()
			now := m.usedTime()
			left -= now - used
			used = now
			// On a host that stands still now and then it may be late.
			if late := time.Since(end); late > 0 {
				left += time.Duration(m.cfg.CPUMax * float64(late))
				break
			}
			if left <= 0 {
				break
			}
		}
		if left > 0 {
			continue
		}
		// The periods that give nothing, since they are used up already, are one with
		// this one: nobody is let go at their beginning.
		debt := -left / perPeriod
		left += debt * perPeriod
		began := time.Now()
		more := m.standStill(func() bool { return sleep(time.Until(end) + debt*pacePeriod) })
		looked = time.Now()
		m.throttled.Add(int64(looked.Sub(began)))
		if !more {
			return
		}
	}
}

// standStill has vCPUs and devices' workers stand still while sleep runs. Both report
// whether the machine still runs.
func (m *Machine) standStill(sleep func() bool) bool {
	gate := make(chan struct{})
	defer close(gate)
	m.meter.Hold(gate)
	for _, v := range m.vcpus {
		select {
		case v.ctl <- func() { v.stand(gate) }:
			v.kick()
		case <-m.ending:
			return false
		}
	}
	return sleep()
}

// usedTime is the CPU time that all vCPUs' threads and the devices' workers have used.
func (m *Machine) usedTime() time.Duration {
	total := m.deviceTime()
	for _, t := range m.CPUTime() {
		total += t
	}
	return total
}

// deviceTime is that of the devices' workers.
func (m *Machine) deviceTime() time.Duration {
	if m.meter == nil {
		return 0
	}
	return m.meter.Spent()
}
