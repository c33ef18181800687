package vmm

import "sync"

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
func (m *Machine) Do(f func(*VCPU) error) error {
	if !m.started.Load() {
		return errNotStarted
	}
	return m.vcpus[0].call(f)
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

// Pause stops all vCPUs until Resume. Pausing a paused machine does nothing.
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
	release, err := m.hold()
	if err != nil {
		return err
	}
	m.resume = release
	return nil
}

// Resume lets a paused machine go on. Resuming a running one does nothing.
func (m *Machine) Resume() error {
	m.pausing.Lock()
	defer m.pausing.Unlock()
	if m.resume != nil {
		m.resume()
		m.resume = nil
	}
	return nil
}

// WithPaused runs f while all vCPUs stand still, and leaves the machine as it
// was: running, paused, or not started. Devices go on: memory can change where a request
// that the guest made before is being answered.
//
// It must not be called from a [TrapFunc]: that runs on a vCPU, which would
// wait for itself.
func (m *Machine) WithPaused(f func() error) error {
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
