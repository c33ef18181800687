package vmm

import (
	"errors"
	"fmt"
	"sync"
)

// eachVCPU runs f for every vCPU on its own thread, one after the other, and
// stops at the first error. Before the start there are no threads: f runs on the
// caller's, and the start waits.
func (m *Machine) eachVCPU(f func(*VCPU) error) error {
	run := func(v *VCPU) error { return v.call(f) }
	m.life.Lock()
	if !m.started.Load() {
		run = f
		defer m.life.Unlock()
	} else {
		m.life.Unlock()
	}
	for _, v := range m.vcpus {
		if err := run(v); err != nil {
			return err
		}
	}
	return nil
}

// Do runs f on the thread of vCPU 0, between two exits.
func (m *Machine) Do(f func(*VCPU) error) error { return m.On(0, f) }

// On runs f on the thread of vCPU id, between two exits. The other vCPUs run on.
// Like [Machine.WithVCPUsStopped] it must not be called from a [TrapFunc].
func (m *Machine) On(id int, f func(*VCPU) error) error {
	switch v := m.VCPU(id); {
	case !m.started.Load():
		return errNotStarted
	case v == nil:
		return fmt.Errorf("vmm: no vCPU %d", id)
	default:
		return v.call(f)
	}
}

// hold stops every vCPU and returns when all stand still, with the function
// that lets them go. A vCPU that is held still does what others ask of it, and
// leaves when the machine ends. The caller holds m.pausing.
func (m *Machine) hold() (release func(), err error) {
	gate := make(chan struct{})
	held := make(chan struct{}, len(m.vcpus))
	for _, v := range m.vcpus {
		stop := func() { held <- struct{}{}; v.stand(gate) }
		select {
		case v.ctl <- stop:
			v.kick()
		case <-m.ending:
			close(gate)
			return nil, errEnded
		}
	}
	for range m.vcpus {
		select {
		case <-held:
		case <-m.ending:
			close(gate)
			return nil, errEnded
		}
	}
	return sync.OnceFunc(func() { close(gate) }), nil
}

// stand keeps the vCPU out of the guest until gate is closed.
func (v *VCPU) stand(gate <-chan struct{}) {
	for {
		select {
		case <-gate:
			return
		case <-v.m.ending:
			return
		case f := <-v.ctl:
			f()
		}
	}
}

// Pause has the whole machine stand still until Resume: its vCPUs, and its
// devices, which neither touch guest memory nor raise interrupts meanwhile.
// Requests that the guest has made are answered, or wait with their answer;
// none is lost. What the host does to the machine has its effect after Resume.
// Pausing a paused machine does nothing.
//
// It waits for reads and writes of the host's files that are under way.
func (m *Machine) Pause() error {
	m.pausing.Lock()
	defer m.pausing.Unlock()
	if !m.started.Load() {
		return errNotStarted
	}
	if m.hasEnded() {
		return errEnded
	}
	if m.resume != nil {
		return nil
	}
	// vCPUs first: one that resets a device waits for the device to stop, which
	// a suspended one might not.
	release, err := m.hold()
	if err != nil {
		return err
	}
	m.suspendDevices()
	m.resume = release
	return nil
}

// Paused says whether the machine stands still by [Machine.Pause].
func (m *Machine) Paused() bool {
	m.pausing.Lock()
	defer m.pausing.Unlock()
	return m.resume != nil
}

// Resume lets a paused machine go on. Resuming a running one does nothing.
func (m *Machine) Resume() error {
	m.pausing.Lock()
	defer m.pausing.Unlock()
	if m.resume == nil {
		return nil
	}
	var err error
	if !m.hasEnded() {
		err = m.resumeDevices()
	}
	m.resume()
	m.resume = nil
	return err
}

func (m *Machine) suspendDevices() {
	for _, t := range m.virtio {
		t.Suspend()
	}
	for _, p := range m.pins {
		p.hold()
	}
	m.stopWatchdog(m)
}

func (m *Machine) resumeDevices() error {
	var errs []error
	for _, p := range m.pins {
		errs = append(errs, p.release())
	}
	for _, t := range m.virtio {
		t.Resume()
	}
	m.startWatchdog(m)
	return errors.Join(errs...)
}

// WithVCPUsStopped runs f while no vCPU runs, and leaves the machine as it was:
// running, paused, or not started. It is for a short look at the vCPUs or a change of the
// guest's code. Devices go on, which makes it cheaper than [Machine.Pause]:
// memory can change where a request that the guest made before is being
// answered.
//
// It must not be called from a [TrapFunc]: that runs on a vCPU, which would
// wait for itself.
func (m *Machine) WithVCPUsStopped(f func() error) error {
	m.pausing.Lock()
	defer m.pausing.Unlock()
	if m.resume == nil && m.started.Load() {
		release, err := m.hold()
		if err != nil {
			return err
		}
		defer release()
	}
	return f()
}
