package supervisor

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"warder/guestinit/control"
	"warder/guestinit/proto"
	"warder/vmm"
)

// A ServiceVM is a machine whose guest has come up. Its methods are safe for
// concurrent use.
type ServiceVM struct {
	name    string
	kernel  string // path
	root    Root
	shares  map[string]string // directories by tag
	machine *vmm.Machine
	guest   *control.Guest
	serial  *tail
}

// nextCID gives every VM of this process an address of its own.
var nextCID atomic.Uint32

const (
	firstCID = 3
	// seedSize is how much of the host's entropy a guest gets, in bytes.
	seedSize = 64
	// settle is how long the machine of a guest that fell silent may take to
	// end, for the error to tell why.
	settle = 5 * time.Second
)

// StartVM starts a VM and waits until its guest is up and set up. The error is
// a *GuestError when the host did its part and the guest did not.
func StartVM(ctx context.Context, spec Spec) (*ServiceVM, error) {
	if spec.Log == nil {
		spec.Log = slog.Default()
	}
	if spec.BootTimeout == 0 {
		spec.BootTimeout = defaultBootTimeout
	}
	if err := spec.validate(); err != nil {
		return nil, err
	}
	img, err := buildImage(spec)
	if err != nil {
		return nil, err
	}
	vm := &ServiceVM{name: spec.Name, kernel: img.kernel, root: spec.Root, shares: make(map[string]string), serial: &tail{next: spec.Console}}
	cfg := vmm.Config{
		Name:      spec.Name,
		CPUs:      spec.CPUs,
		Memory:    spec.Memory,
		CPUWeight: spec.CPUWeight,
		CPUMax:    spec.CPUMax,
		BootCPUs:  spec.BootCPUs, MemoryMax: spec.MemoryMax, Watchdog: spec.Watchdog,
		Kernel:   img.kernel,
		Initrd:   img.initrd,
		Cmdline:  img.cmdline,
		Disks:    spec.Disks,
		Nets:     spec.nets(),
		Ports:    spec.Ports,
		Pmems:    spec.Pmems,
		VsockCID: firstCID + nextCID.Add(1) - 1,
		VsockDir: spec.VsockDir, VsockWatcher: spec.VsockWatcher,
		Serial: vmm.Stream{Out: vm.serial},
		Log:    spec.Log,
	}
	setup := proto.Setup{Hostname: spec.Name, Secrets: spec.Secrets, Entropy: make([]byte, seedSize)}
	rand.Read(setup.Entropy)
	setup.Shortages = spec.Shortages
	spec.setupNets(&setup, cfg.Nets)
	if spec.Watchdog != "" {
		setup.Watchdog = cmp.Or(spec.WatchdogTimeout, defaultWatchdogTimeout)
	}
	if spec.Root.Path != "" { // behind the others, which have their names
		setup.Root = &proto.Root{FileSystem: spec.Root.FileSystem}
		cfg.Disks = slices.Clone(cfg.Disks)
		disk := func(d vmm.Disk) string {
			cfg.Disks = append(cfg.Disks, d)
			return fmt.Sprintf("vd%c", 'a'+len(cfg.Disks)-1) // a machine has fewer than there are letters
		}
		if img.rootAsDisk {
			setup.Root.Device = disk(vmm.Disk{Path: spec.Root.Path, ReadOnly: true, Offset: spec.Root.Offset, Size: spec.Root.Size})
		} else {
			setup.Root.Device = fmt.Sprintf("pmem%d", len(cfg.Pmems))
			cfg.Pmems = append(slices.Clone(cfg.Pmems), vmm.Pmem{Path: spec.Root.Path})
		}
		if spec.Root.Disk != "" {
			setup.Root.Disk = disk(vmm.Disk{Path: spec.Root.Disk})
		}
	}
	for i, p := range cfg.Pmems {
		if !p.Writable {
			setup.ReadOnly = append(setup.ReadOnly, fmt.Sprintf("pmem%d", i))
		}
	}
	for i, s := range spec.Shares {
		tag := fmt.Sprintf("share%d", i)
		vm.shares[tag] = s.Host
		share := vmm.Share{Tag: tag, Dir: s.Host, ReadOnly: s.ReadOnly}
		if spec.ShareWatcher != nil {
			if share.Watcher, err = spec.ShareWatcher(s.Host); err != nil {
				return nil, err
			}
		}
		cfg.Shares = append(cfg.Shares, share)
		setup.Mounts = append(setup.Mounts, proto.Mount{Type: "virtiofs", Source: tag, Target: s.Guest, ReadOnly: s.ReadOnly})
	}
	if vm.machine, err = vmm.New(cfg); err != nil {
		return nil, err
	}
	if err := vm.boot(ctx, spec, setup); err != nil {
		vm.machine.Close()
		return nil, err
	}
	return vm, nil
}

// boot starts the machine and brings its guest to where it can run commands.
func (vm *ServiceVM) boot(ctx context.Context, spec Spec, setup proto.Setup) error {
	listener, err := vm.machine.Vsock().Listen(proto.Port)
	if err != nil {
		return err
	}
	if spec.BeforeStart != nil {
		err = spec.BeforeStart(vm.machine)
	}
	if err == nil {
		err = vm.machine.Start()
	}
	if err != nil {
		listener.Close()
		return err
	}
	booting, cancel := context.WithCancel(ctx)
	if spec.BootTimeout > 0 {
		booting, cancel = context.WithTimeout(ctx, spec.BootTimeout)
	}
	defer cancel()
	go func() { // the end of the machine is the end of the wait
		select {
		case <-vm.machine.Done():
			cancel()
		case <-booting.Done():
		}
	}()
	guest, err := control.Accept(booting, listener, spec.Log)
	if err == nil {
		for _, w := range guest.Hello().Warnings {
			spec.Log.Debug("guest's PID 1", "vm", vm.name, "warning", w)
		}
		vm.guest = guest
		if spec.Secret != nil {
			guest.AnswerSecrets(spec.Secret)
		}
		setup.Time = time.Now()
		err = guest.Setup(booting, setup)
	}
	if err == nil {
		go func() { // a device whose machine has ended resets no connection
			<-vm.machine.Done()
			guest.Close()
		}()
		return nil
	}
	if guest != nil {
		guest.Close()
	}
	if _, said := errors.AsType[*proto.Error](err); said {
		return fmt.Errorf("the guest could not be set up: %w", err)
	}
	select {
	case <-vm.machine.Done():
		return gone(vm.machine.Wait(), vm.serial.bytes())
	default:
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if booting.Err() != nil {
		return stuck(spec.BootTimeout, reached(guest, err), vm.machine.Stats(), vm.serial.bytes())
	}
	return vm.explain(err)
}

// reached is how far a guest's PID 1 had come with the host when err ended its
// boot, "" when it had not dialled.
func reached(guest *control.Guest, err error) string {
	if guest != nil {
		return "its PID 1 has introduced itself, but not finished its set-up"
	}
	if _, dialled := errors.AsType[*control.HelloError](err); dialled {
		return "its PID 1 has dialled the host, but not introduced itself"
	}
	return ""
}

// explain turns the end of a guest's control connection into what became of
// the machine, and adds to a guest's standstill what its kernel said. Other
// errors it leaves.
func (vm *ServiceVM) explain(err error) error {
	if errors.Is(err, control.ErrStalled) {
		return &GuestError{Cause: err.Error(), Serial: lines(vm.serial.bytes())}
	}
	if !errors.Is(err, control.ErrGone) {
		return err
	}
	wait := time.NewTimer(settle)
	defer wait.Stop()
	select {
	case <-vm.machine.Done():
		e := gone(vm.machine.Wait(), vm.serial.bytes())
		if vm.guest == nil {
			return e
		}
		if why := vm.guest.Stopping(); why != "" && e.Exit.Reason == vmm.PowerOff {
			e.Cause += " (" + strings.Join(lines([]byte(why)), " ") + ")"
		}
		return e
	case <-wait.C:
		return &GuestError{Cause: "the guest's PID 1 closed its control connection, its kernel runs on", Serial: lines(vm.serial.bytes())}
	}
}

// Name is the VM's name.
func (vm *ServiceVM) Name() string { return vm.name }

// Kernel is the path of the kernel file that the VM runs.
func (vm *ServiceVM) Kernel() string { return vm.kernel }

// Shares are the host's directories by the tags of their virtio-fs devices.
func (vm *ServiceVM) Shares() map[string]string { return maps.Clone(vm.shares) }

// Machine is the machine under the VM, for those who watch it.
func (vm *ServiceVM) Machine() *vmm.Machine { return vm.machine }

// Serial is the last that the guest's kernel said, as it came.
func (vm *ServiceVM) Serial() []byte { return vm.serial.bytes() }

// Done is closed when the machine has ended.
func (vm *ServiceVM) Done() <-chan struct{} { return vm.machine.Done() }

// Run runs a command to its end, see control.Guest.Run. When the guest goes
// away meanwhile, the error is a *GuestError.
func (vm *ServiceVM) Run(ctx context.Context, cmd proto.Command, stdio control.Stdio) (proto.Status, error) {
	p, err := vm.Start(ctx, cmd, stdio)
	if err != nil {
		return proto.Status{}, err
	}
	return p.Wait(ctx)
}

// A Process is a command that was started.
type Process struct {
	*control.Process
	vm *ServiceVM
}

// Start starts a command, see control.Guest.Start. What it leaves open is as the
// VM's image has it.
func (vm *ServiceVM) Start(ctx context.Context, cmd proto.Command, stdio control.Stdio) (*Process, error) {
	cmd = vm.root.fill(cmd)
	if len(cmd.Args) == 0 && vm.root.Path != "" {
		return nil, errors.New("the image says no command: give one")
	}
	p, err := vm.guest.Start(ctx, cmd, stdio)
	if err != nil {
		return nil, vm.explain(err)
	}
	return &Process{p, vm}, nil
}

// Wait waits for the command, see control.Process.Wait. When the guest goes
// away, the error is a *GuestError.
func (p *Process) Wait(ctx context.Context) (proto.Status, error) {
	status, err := p.Process.Wait(ctx)
	return status, p.vm.explain(err)
}

// Info is the guest's own view of its resources.
func (vm *ServiceVM) Info(ctx context.Context) (proto.Info, error) {
	info, err := vm.guest.Info(ctx)
	return info, vm.explain(err)
}

// SetCPUs has the guest take so many of its CPUs on line and the rest off, and
// gives its word for how many are then; what they really take, the machine's
// CPUTime says.
func (vm *ServiceVM) SetCPUs(ctx context.Context, online int) (proto.CPUs, error) {
	cpus, err := vm.guest.SetCPUs(ctx, online)
	return cpus, vm.explain(err)
}

// Shortages has what the guest says that it is short of, see control.Guest.Shortages.
func (vm *ServiceVM) Shortages() <-chan proto.Shortage { return vm.guest.Shortages() }

// Stop stops the guest in good order: its processes get grace to end, its file
// systems are unmounted, it switches off. When ctx ends first the machine is
// killed, and the error says so. Either way nothing of the VM is left.
func (vm *ServiceVM) Stop(ctx context.Context, grace time.Duration) error {
	err := vm.guest.PowerOff(ctx, grace)
	if err != nil && !errors.Is(err, control.ErrGone) {
		err = vm.machine.Stop(ctx) // by its power button
	} else {
		select {
		case <-vm.machine.Done():
			err = nil
		case <-ctx.Done():
			err = fmt.Errorf("the guest did not switch off in time and was killed: %w", ctx.Err())
		}
	}
	return errors.Join(err, vm.Close())
}

// Close kills the machine, if it still runs, and gives back all it held.
func (vm *ServiceVM) Close() error {
	vm.machine.Kill()
	vm.guest.Close()
	return vm.machine.Close()
}
