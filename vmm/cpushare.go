package vmm

import (
	"fmt"

	"warder/vmm/cgroup"
)

// minCPUMax is the least Config.CPUMax: 1 ms of a period.
const minCPUMax = 0.01

func (c Config) validateCPULimits() (errs []error) {
	if err := cgroup.CheckWeight(c.CPUWeight); err != nil {
		errs = append(errs, err)
	}
	if c.CPUMax != 0 && !(c.CPUMax >= minCPUMax && c.CPUMax <= maxCPUs) { // NaN is neither
		errs = append(errs, fmt.Errorf("at most %g CPUs: give %g to %d, or 0 for no bound", c.CPUMax, minCPUMax, maxCPUs))
	}
	return errs
}

// createGroup makes the group that the vCPUs' threads run in, if the machine is
// to have one.
func (m *Machine) createGroup() error {
	if m.cfg.CPUWeight == 0 {
		return nil
	}
	g, err := cgroup.New(m.cfg.Name, m.cfg.CPUWeight)
	if err != nil {
		return err
	}
	m.group = g
	m.onClose(g.Close)
	return nil
}

// SetCPUWeight changes [Config.CPUWeight] of a machine that was made with one.
func (m *Machine) SetCPUWeight(weight int) error {
	m.life.Lock()
	defer m.life.Unlock()
	switch {
	case m.group == nil:
		return fmt.Errorf("vmm: %s: its CPU time is not shared out by weights", m.cfg.Name)
	case m.hasEnded():
		return errEnded
	}
	return m.group.SetWeight(weight)
}

// enterGroup moves the vCPU's thread, which calls it, into the machine's group.
func (v *VCPU) enterGroup() error {
	if v.m.group == nil {
		return nil
	}
	return v.m.group.Enter()
}

// leaveGroup undoes enterGroup, so that the group is empty when the vCPU is done.
func (v *VCPU) leaveGroup() {
	if v.m.group == nil {
		return
	}
	if err := v.m.group.Leave(); err != nil {
		v.m.log.Warn("vCPU thread stays in its group", "vcpu", v.id, "err", err)
	}
}
