package lab

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"warder/lab/wire"
)

// A MachineError says that an outer machine failed, as opposed to a command
// in it.
type MachineError struct {
	Reason string   // what was seen
	Serial []string // the last lines of QEMU and of the machine's serial console
	Err    error    // what was seen first, may be nil
}

func (e *MachineError) Error() string {
	s := "outer machine: " + e.Reason
	if len(e.Serial) > 0 {
		s += "; its console ended with:\n  " + strings.Join(e.Serial, "\n  ")
	}
	return s
}

// Unwrap returns what was seen first.
func (e *MachineError) Unwrap() error { return e.Err }

// A Machine is a running outer machine.
type Machine struct {
	cfg         Config
	serial      tail // the kernel's console
	diagnostics tail // QEMU's own complaints
	conn        net.Conn
	w           *wire.Writer
	hello       wire.HelloInfo

	kill  context.CancelFunc
	ended chan struct{} // closed when QEMU is gone
	err   error         // QEMU's, valid after ended

	mu sync.Mutex // one command at a time
}

// Start boots an outer machine. It lives until Close or the end of ctx.
func Start(ctx context.Context, cfg Config) (*Machine, error) {
	cfg, err := Prepare(ctx, cfg)
	if err != nil {
		return nil, err
	}
	initramfs, err := buildInitramfs(cfg)
	if err != nil {
		return nil, err
	}
	defer initramfs.Close()
	began := time.Now()
	m := &Machine{cfg: cfg, ended: make(chan struct{})}
	if err := m.launch(ctx, initramfs); err != nil {
		return nil, err
	}
	if err := m.awaitHello(); err != nil {
		m.Close()
		return nil, err
	}
	cfg.Log.Info("outer machine is up", "arch", cfg.Arch, "kernel", m.hello.Kernel, "cpus", m.hello.CPUs,
		"kvm", m.hello.KVM, "after", time.Since(began).Round(100*time.Millisecond))
	if !m.hello.KVM {
		m.Close()
		return nil, &MachineError{Reason: "it has no /dev/kvm: its kernel or modules lack KVM", Serial: m.lastLines()}
	}
	return m, nil
}

// launch starts QEMU. It dies with ctx, and with this process.
func (m *Machine) launch(ctx context.Context, initramfs *os.File) error {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("lab: socket pair: %w", err)
	}
	ours, theirs := os.NewFile(uintptr(fds[0]), "lab"), os.NewFile(uintptr(fds[1]), "lab")
	defer ours.Close()
	defer theirs.Close()
	if m.conn, err = net.FileConn(ours); err != nil {
		return fmt.Errorf("lab: socket pair: %w", err)
	}
	m.w = wire.NewWriter(m.conn)

	ctx, m.kill = context.WithCancel(ctx)
	cmd := exec.CommandContext(ctx, m.cfg.QEMU.Path, arguments(m.cfg)...)
	cmd.Stdout, cmd.Stderr = &m.serial, &m.diagnostics
	cmd.ExtraFiles = []*os.File{initramfsFD - 3: initramfs, portFD - 3: theirs}
	cmd.SysProcAttr = &unix.SysProcAttr{Setpgid: true, Pdeathsig: unix.SIGKILL}
	cmd.WaitDelay = time.Second
	started := make(chan error)
	go func() {
		// The death signal is sent when the thread that forked ends, so
		// this one has to stay.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			m.err = cmd.Wait()
			close(m.ended)
			m.conn.Close()
		}
	}()
	if err := <-started; err != nil {
		m.kill()
		m.conn.Close()
		return fmt.Errorf("lab: start QEMU: %w", err)
	}
	return nil
}

// awaitHello waits until the machine is up.
func (m *Machine) awaitHello() error {
	if err := m.conn.SetReadDeadline(time.Now().Add(m.cfg.BootTimeout)); err != nil {
		return m.failure(err)
	}
	f, err := wire.Read(m.conn)
	if err != nil {
		return m.failure(err)
	}
	if f.Type != wire.Hello {
		return m.failure(fmt.Errorf("its first frame is of type %d, not hello", f.Type))
	}
	return f.Decode(&m.hello)
}

// read reads a frame of a machine that must show signs of life.
func (m *Machine) read() (wire.Frame, error) {
	if err := m.conn.SetReadDeadline(time.Now().Add(m.cfg.Silence)); err != nil {
		return wire.Frame{}, m.failure(err)
	}
	f, err := wire.Read(m.conn)
	if err != nil {
		return f, m.failure(err)
	}
	return f, nil
}

const (
	consoleLines = 30
	lastWords    = 3 * time.Second
)

// failure ends the machine and explains err, which came from its stream.
func (m *Machine) failure(err error) error {
	e := &MachineError{Err: err}
	silent := errors.Is(err, os.ErrDeadlineExceeded)
	broken := errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, net.ErrClosed) ||
		errors.Is(err, unix.ECONNRESET) || errors.Is(err, unix.EPIPE)
	if broken {
		// The stream breaks a moment before QEMU is gone and its last
		// lines are here.
		select {
		case <-m.ended:
		case <-time.After(lastWords):
		}
	}
	m.Close()
	e.Serial = m.lastLines()
	line, panicked := m.serial.panicLine()
	switch {
	case panicked:
		e.Reason = "its kernel panicked: " + line
	case silent && m.hello.Kernel == "":
		e.Reason = fmt.Sprintf("not up after %v", m.cfg.BootTimeout)
	case silent:
		e.Reason = fmt.Sprintf("silent for %v", m.cfg.Silence)
	case broken:
		e.Reason = "it ended by itself"
		if m.err != nil {
			e.Reason = fmt.Sprintf("QEMU ended: %v", m.err)
		}
	default:
		e.Reason = err.Error()
	}
	return e
}

// harmless are complaints of QEMU about CPU features it does not emulate.
const harmless = "warning: TCG doesn't support requested feature"

func (m *Machine) lastLines() []string {
	lines := slices.DeleteFunc(m.diagnostics.lines(consoleLines), func(l string) bool { return strings.Contains(l, harmless) })
	return append(lines, m.serial.lines(consoleLines)...)
}

// Close ends the machine.
func (m *Machine) Close() error {
	m.kill()
	<-m.ended
	return nil
}
