package vmm

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"

	"warder/devices/bus"
	"warder/devices/guestmem"
	"warder/devices/meter"
	"warder/kvm"
	"warder/vmm/cgroup"
)

// A Machine is a virtual machine. Its methods may be called from any
// goroutine.
type Machine struct {
	cfg Config
	log *slog.Logger

	sys     *kvm.System
	vm      *kvm.VM
	mem     *guestmem.Memory
	patches *guestmem.Kept // pages that WriteVirtual wrote to
	slots   []slot
	vcpus   []*VCPU
	group   *cgroup.Group // of the vCPUs' threads, nil for none
	meter   *meter.Meter  // of the devices' workers, nil without CPUMax
	pacing  sync.WaitGroup
	// throttled is how long the machine stood still for CPUMax, in ns.
	throttled atomic.Int64
	mmio      bus.Bus
	arch      archMachine
	devices

	trap     atomic.Pointer[TrapFunc]
	observer atomic.Pointer[ExitFunc]
	acts     atomic.Pointer[ActFunc]
	owner    struct {
		once  sync.Once
		value any
	}
	debugger atomic.Pointer[Debugger]

	pausing sync.Mutex // held while somebody stops the vCPUs or lets them go; taken before life
	resume  func()     // lets paused vCPUs go; nil while running
	life    sync.Mutex // held while the machine starts or closes
	started atomic.Bool

	watching sync.Mutex  // guards watch, and is held while one is made or ended
	watch    *Protection // nil unless somebody watches for writes

	endOnce sync.Once
	exit    Exit
	ending  chan struct{} // closed when exit is set
	ended   chan struct{} // closed when every thread has been joined
	closers []func() error
}

// New builds a machine: everything is checked, opened and wired, and the
// kernel is in its memory, but no guest instruction has run.
func New(cfg Config) (_ *Machine, err error) {
	cfg, err = cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	m := &Machine{
		cfg:    cfg,
		log:    cfg.Log.With("vm", cfg.Name),
		ending: make(chan struct{}),
		ended:  make(chan struct{}),
	}
	if cfg.CPUMax != 0 {
		m.meter = new(meter.Meter)
	}
	// Half a machine is taken apart in the order opposite to its making.
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("vmm: %s: %w", cfg.Name, err), m.release())
		}
	}()
	// The group first, so that it is the last to go: KVM's own threads for the
	// machine start in the group of the vCPU that needs them.
	for _, step := range []func() error{m.createGroup, m.openKVM, m.createMemory, m.createVCPUs, m.createDevices, m.loadKernel} {
		if err := step(); err != nil {
			return nil, err
		}
	}
	go m.reap()
	return m, nil
}

// onClose adds f to what is undone when the machine goes, last made first.
func (m *Machine) onClose(f func() error) { m.closers = append(m.closers, f) }

func (m *Machine) release() error {
	var errs []error
	for len(m.closers) > 0 {
		last := len(m.closers) - 1
		f := m.closers[last]
		m.closers = m.closers[:last]
		errs = append(errs, f())
	}
	return errors.Join(errs...)
}

func (m *Machine) openKVM() error {
	sys, err := kvm.Open(m.cfg.DevKVM)
	if err != nil {
		return err
	}
	m.sys = sys
	m.onClose(sys.Close)
	vm, err := sys.CreateVM(machineType)
	if err != nil {
		return err
	}
	m.vm = vm
	m.onClose(vm.Close)
	return m.archCreate()
}

func (m *Machine) createVCPUs() error {
	for id := range m.cfg.CPUs {
		fd, err := m.vm.CreateVCPU(id)
		if err != nil {
			return err
		}
		m.onClose(fd.Close)
		m.vcpus = append(m.vcpus, newVCPU(m, id, fd))
	}
	if err := m.openHalts(); err != nil {
		return err
	}
	return m.archVCPUsCreated()
}

// Start sets the vCPUs running. A machine is started once.
func (m *Machine) Start() error {
	m.pausing.Lock()
	defer m.pausing.Unlock()
	m.life.Lock()
	defer m.life.Unlock()
	if m.hasEnded() {
		return errEnded
	}
	if !m.started.CompareAndSwap(false, true) {
		return fmt.Errorf("vmm: %s: started already", m.cfg.Name)
	}
	m.startDevices()
	for _, v := range m.vcpus {
		go v.loop()
	}
	if m.cfg.CPUMax != 0 {
		m.pacing.Go(m.pace)
	}
	return nil
}

// end says how the machine ends. The first call counts.
func (m *Machine) end(e Exit) {
	m.endOnce.Do(func() {
		m.exit = e
		close(m.ending)
	})
}

// hasEnded reports whether the machine has begun to end.
func (m *Machine) hasEnded() bool {
	select {
	case <-m.ending:
		return true
	default:
		return false
	}
}

// reap waits for the end and joins every thread: first the vCPUs, so that no
// guest runs on, then the devices, so that nothing writes to guest memory.
func (m *Machine) reap() {
	<-m.ending
	// From here on no start can succeed; one that is under way is waited for.
	m.life.Lock()
	started := m.started.Load()
	m.life.Unlock()
	if started {
		for _, v := range m.vcpus {
			v.kick()
			<-v.done
		}
		m.pacing.Wait()
		m.stopDevices()
	}
	m.log.Info("machine ended", "reason", m.exit.Reason, "err", m.exit.Err)
	close(m.ended)
}

// Done is closed when the machine has ended and nothing of it runs any more.
func (m *Machine) Done() <-chan struct{} { return m.ended }

// Wait waits for the machine to end and says how it did.
func (m *Machine) Wait() Exit {
	<-m.ended
	return m.exit
}

// Kill ends the machine at once, as pulling its plug would.
func (m *Machine) Kill() { m.end(Exit{Reason: Killed}) }

// Stop presses the power button and waits for the guest to switch off. When
// ctx ends first, it kills the machine. The error says that it had to.
func (m *Machine) Stop(ctx context.Context) error {
	if !m.started.Load() {
		m.Kill()
		return nil
	}
	if err := m.PowerButton(); err != nil {
		m.Kill()
		return err
	}
	select {
	case <-m.ended:
		return nil
	case <-ctx.Done():
		m.Kill()
		<-m.ended
		return fmt.Errorf("vmm: %s: the guest did not switch off in time and was killed: %w", m.cfg.Name, ctx.Err())
	}
}

// Close kills the machine unless it has ended, and gives back all that it
// held, guest memory last.
func (m *Machine) Close() error {
	m.Kill()
	<-m.ended
	err := m.endWatch()
	m.endDebug()
	m.life.Lock()
	defer m.life.Unlock()
	return errors.Join(err, m.release())
}

// Memory is the guest's RAM. It stays readable after the machine has ended,
// until Close.
func (m *Machine) Memory() *guestmem.Memory { return m.mem }

// Name is the machine's name.
func (m *Machine) Name() string { return m.cfg.Name }
