package mirror

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"sync"
	"time"

	"warder/guestinit"
	"warder/guestinit/control"
	"warder/guestinit/initramfs"
	"warder/guestinit/proto"
	"warder/supervisor"
	"warder/supervisor/declaration"
	"warder/supervisor/link"
	"warder/vmm"
)

const (
	// Name is that of a supervisor's VM.
	Name = declaration.Supervisor
	// program is the decision module in it.
	program = "/supervisor"
	// DefaultMemory is what it has, in bytes.
	DefaultMemory = 96 << 20
	// introduction is how long it may take from the start of its program until it
	// has shown who it is.
	introduction = time.Minute
)

// VMs make supervisors that are virtual machines.
type VMs struct {
	Kernel      string // path of the guest kernel
	Memory      uint64 // bytes; DefaultMemory when 0
	CPUWeight   int
	BootTimeout time.Duration
	// Keep is a directory for the memory of supervisors that were lost, "" for none.
	Keep string
	Log  *slog.Logger
	// Began is given each VM before its program runs, Ending when it stands still for
	// good.
	Began  func(*supervisor.ServiceVM)
	Ending func(*supervisor.ServiceVM)
	// Refused is told of who connected and was not the supervisor.
	Refused func(why string)
	// CheckEvery is the time from one check of a supervisor's integrity to the next.
	// Default: 30 s. Unchecked is told why one cannot be checked.
	CheckEvery time.Duration
	Unchecked  func(why string)
}

// Make makes one.
func (m *VMs) Make(ctx context.Context) (Supervisor, error) {
	pid1, module, err := initramfs.Supervisor()
	if err != nil {
		return nil, err
	}
	own, its, err := link.NewCredentials()
	if err != nil {
		return nil, err
	}
	credential, err := its.Encode()
	if err != nil {
		return nil, err
	}
	return m.boot(ctx, own, []guestinit.File{
		{Path: "/init", Mode: 0o755, Data: pid1},
		{Path: program, Mode: 0o755, Data: module},
		{Path: link.CredentialFile, Mode: 0o600, Data: credential},
	})
}

// boot brings a VM of these files up, and has it introduce itself.
func (m *VMs) boot(ctx context.Context, own link.Credential, files []guestinit.File) (Supervisor, error) {
	var l net.Listener
	spec := supervisor.Spec{
		Name: Name, CPUs: 1, Memory: m.Memory, CPUWeight: m.CPUWeight, Kernel: m.Kernel, BootTimeout: m.BootTimeout, Log: m.Log,
		Watchdog: vmm.WatchdogKill, Bare: true, Files: files,
		BeforeStart: func(machine *vmm.Machine) (err error) {
			l, err = machine.Vsock().Listen(link.Port)
			return err
		},
	}
	if spec.Memory == 0 {
		spec.Memory = DefaultMemory
	}
	vm, err := supervisor.StartVM(ctx, spec)
	if err != nil {
		return nil, fmt.Errorf("the supervisor's VM: %w", err)
	}
	v := &machine{makes: m, vm: vm, done: make(chan struct{})}
	v.checking, v.stop = context.WithCancel(context.Background())
	m.Began(vm)
	said := &tail{}
	p, err := vm.Start(ctx, proto.Command{Args: []string{program}}, control.Stdio{Out: said, Err: said})
	if err == nil {
		go v.wait(p, said)
		v.conn, err = m.accept(ctx, l, own, v)
	}
	if err != nil {
		v.Halt()
		_, e := v.Discard(false)
		return nil, errors.Join(fmt.Errorf("the supervisor's VM: %w", err), e)
	}
	programs := make(map[string][]byte)
	for _, f := range files {
		if f.Mode&0o111 != 0 {
			programs[f.Path] = f.Data
		}
	}
	v.checks.Go(func() { v.check(programs) })
	return v, nil
}

// accept waits for the connection of the one that has the credentials. Others are
// refused, and when it is there nobody is listened to any more.
func (m *VMs) accept(ctx context.Context, l net.Listener, own link.Credential, v *machine) (*tls.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, introduction)
	defer cancel()
	defer l.Close()
	stop := context.AfterFunc(ctx, func() { l.Close() })
	defer stop()
	end := make(chan struct{})
	defer close(end)
	go func() {
		select {
		case <-v.done:
			cancel()
		case <-end:
		}
	}()
	for {
		c, err := l.Accept()
		if err != nil {
			select {
			case <-v.done:
				return nil, v.Why()
			default:
			}
			return nil, errors.Join(errors.New("it has not introduced itself"), ctx.Err())
		}
		t := tls.Server(c, own.Config())
		if err := t.HandshakeContext(ctx); err != nil {
			c.Close()
			if m.Refused(err.Error()); ctx.Err() == nil {
				continue
			}
			return nil, errors.Join(errors.New("it has not introduced itself"), err)
		}
		return t, nil
	}
}

// machine is a supervisor's VM.
type machine struct {
	makes *VMs
	vm    *supervisor.ServiceVM
	conn  *tls.Conn // nil until it has introduced itself

	lost sync.Once
	done chan struct{} // closed when it is lost
	why  error         // then
	halt sync.Once

	checking context.Context // until it is halted
	stop     context.CancelFunc
	checks   sync.WaitGroup
}

// lose says that it is lost.
func (v *machine) lose(why error) {
	v.lost.Do(func() {
		v.why = why
		close(v.done)
	})
}

// wait notes how the program ended.
func (v *machine) wait(p *supervisor.Process, said *tail) {
	status, err := p.Wait(context.Background())
	if err == nil {
		err = fmt.Errorf("its program ended with status %d", status.ExitCode())
	}
	if s := said.String(); s != "" {
		err = fmt.Errorf("%w: %s", err, s)
	}
	v.lose(fmt.Errorf("it ended: %w", err))
}

func (v *machine) Conn() io.ReadWriteCloser { return v.conn }
func (v *machine) Done() <-chan struct{}    { return v.done }
func (v *machine) Why() error               { return v.why }

// Halt stops its vCPUs and its devices for good, so that its memory stays as it is.
func (v *machine) Halt() {
	v.halt.Do(func() {
		v.stop()
		v.checks.Wait()
		if v.vm.Machine().Pause() != nil {
			v.vm.Machine().Kill() // it has ended, or is as good as that
		}
		if v.conn != nil {
			v.conn.NetConn().Close() // without a word: it hears nothing any more
		}
		v.makes.Ending(v.vm)
	})
}

// Discard keeps its memory if it was lost and that is to be done, and ends the VM.
func (v *machine) Discard(lost bool) (kept string, err error) {
	if lost && v.makes.Keep != "" {
		kept, err = keep(v.makes.Keep, v.vm.Machine())
	}
	return kept, errors.Join(err, v.vm.Close())
}

// tail keeps the last of what a program said.
type tail struct {
	mu  sync.Mutex
	buf []byte
}

// maxSaid is how much that is, in bytes.
const maxSaid = 1 << 10

// Write never fails.
func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.buf = append(t.buf, p...)
	t.buf = t.buf[max(0, len(t.buf)-maxSaid):]
	return len(p), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return proto.Printable(string(bytes.TrimSpace(t.buf)))
}
