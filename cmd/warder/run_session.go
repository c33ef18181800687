package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"golang.org/x/term"

	"warder/guestinit/control"
	"warder/guestinit/proto"
	"warder/supervisor"
	"warder/supervisor/api"
)

var errTimeout = errors.New("the command's time is over")

// interrupted is the cause of the end of a session by a signal to warder.
type interrupted syscall.Signal

func (i interrupted) Error() string { return syscall.Signal(i).String() }

// A session is one VM with one command, tied to this process: its signals, its
// terminal, its time.
//
// Signals go to the command once there is one. Before that, and at the second
// one that asks for an end, the session ends: the command is killed.
type session struct {
	ctx    context.Context
	cancel context.CancelCauseFunc
	sigs   chan os.Signal

	mu      sync.Mutex
	process *supervisor.Process // nil before the command runs
	ends    int                 // signals that asked for an end
}

func newSession(ctx context.Context) *session {
	s := &session{sigs: make(chan os.Signal, 8)}
	s.ctx, s.cancel = context.WithCancelCause(ctx)
	// A closed pipe is to be an error of the write, not our death: the VM is
	// to be put away.
	signal.Ignore(syscall.SIGPIPE)
	signal.Notify(s.sigs, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT, syscall.SIGUSR1, syscall.SIGUSR2, syscall.SIGWINCH)
	go func() {
		for {
			select {
			case sig := <-s.sigs:
				s.signal(sig.(syscall.Signal))
			case <-s.ctx.Done():
				return
			}
		}
	}()
	return s
}

func (s *session) close() {
	signal.Stop(s.sigs)
	s.cancel(nil)
}

func (s *session) limit(d time.Duration) {
	time.AfterFunc(d, func() { s.cancel(errTimeout) })
}

func (s *session) signal(sig syscall.Signal) {
	s.mu.Lock()
	p := s.process
	end := sig == syscall.SIGINT || sig == syscall.SIGTERM || sig == syscall.SIGHUP || sig == syscall.SIGQUIT
	if end {
		s.ends++
	}
	again := s.ends > 1
	s.mu.Unlock()
	switch {
	case sig == syscall.SIGWINCH:
		if p != nil {
			if cols, rows, err := term.GetSize(int(os.Stdout.Fd())); err == nil {
				go p.Resize(s.ctx, uint16(cols), uint16(rows))
			}
		}
	case end && (p == nil || again):
		s.cancel(interrupted(sig))
	case p != nil:
		go func() {
			if err := p.Signal(s.ctx, int(sig)); err != nil && s.ctx.Err() == nil && end {
				s.cancel(interrupted(sig)) // it could not be told
			}
		}()
	}
}

// run starts the VM and the command, and stops the VM after it.
func (s *session) run(spec supervisor.Spec, f runFlags) (status proto.Status, err error) {
	gdb, err := openGDB(s.ctx, &spec, f)
	if err != nil {
		return status, err
	}
	defer gdb.close()
	lease, err := imageFor(s.ctx, f.image)
	if err != nil {
		return status, err
	}
	spec.Root = rootOf(lease, f.overlay)
	vm, err := supervisor.StartVM(s.ctx, spec)
	if lease.Close(); err != nil { // who has the file open keeps it
		return status, err
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.Background(), stopTime)
		defer cancel()
		gdb.close()
		if s.ctx.Err() != nil || err != nil {
			vm.Close() // nobody waits for what it still does
		} else if stopErr := vm.Stop(ctx, leftoverGrace); stopErr != nil {
			fmt.Fprintln(os.Stderr, "warder:", stopErr)
		}
	}()

	socket := openControlSocket()
	defer socket.close()
	socket.add(api.Service(vm))
	if err := grow(vm, spec); err != nil {
		return status, err
	}
	cmd := f.command()
	stdio := control.Stdio{Out: os.Stdout, Err: os.Stderr}
	if f.gdb == gdbStdio {
		stdio.Out = os.Stderr
	}
	if f.stdin {
		stdio.In = os.Stdin
	}
	if f.tty {
		if cols, rows, err := term.GetSize(int(os.Stdout.Fd())); err == nil {
			cmd.Cols, cmd.Rows = uint16(cols), uint16(rows)
		}
		if f.stdin {
			state, err := term.MakeRaw(int(os.Stdin.Fd()))
			if err != nil {
				return status, fmt.Errorf("-t: %w", err)
			}
			defer term.Restore(int(os.Stdin.Fd()), state)
		}
	}
	traced, err := f.trace.begin(s.ctx, vm, cmd.Args)
	if err != nil {
		return status, err
	}
	defer func() { traced.end(status) }()
	p, err := vm.Start(s.ctx, cmd, stdio)
	if err != nil {
		return status, err
	}
	s.mu.Lock()
	s.process = p
	s.mu.Unlock()
	return p.Wait(s.ctx)
}
