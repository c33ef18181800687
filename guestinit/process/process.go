// Package process runs commands as children of a guest's PID 1: on pipes or on
// a terminal, as any user, each in a cgroup of its own.
package process

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"warder/guestinit/proto"
)

// maxCommands bounds the commands that run at once.
const maxCommands = 1024

// A Table starts commands and knows those that run. There is one in a process:
// it reaps every child that the process has.
type Table struct {
	reaper  *reaper
	cgroups *cgroups // nil without cgroup v2

	mu      sync.Mutex
	within  func(func())
	running map[uint64]*command
}

type command struct {
	pid   int
	tty   *os.File // the terminal's master end, nil on pipes
	group *cgroup  // nil without cgroup v2
}

// NewTable makes a table and begins to reap until ctx ends. Cgroups of the
// commands are made in the directory cgroupRoot, a mounted cgroup v2
// hierarchy; "" for none.
func NewTable(ctx context.Context, cgroupRoot string) *Table {
	t := &Table{reaper: newReaper(), running: make(map[uint64]*command), within: func(f func()) { f() }}
	if cgroupRoot != "" {
		t.cgroups = newCgroups(cgroupRoot)
	}
	go t.reaper.run(ctx)
	return t
}

// Within has commands that are started from now on be looked for, and started, by
// functions that do runs, on a thread that sees other files than the rest of the
// program.
func (t *Table) Within(do func(func())) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.within = do
}

// Cgroup is the directory of the cgroup that all commands are in, "" without one.
func (t *Table) Cgroup() string {
	if t.cgroups == nil {
		return ""
	}
	return t.cgroups.root
}

// A Dialer opens the connection for one stream of a command.
type Dialer = func(ctx context.Context, role proto.Role) (net.Conn, error)

// Start runs a command and returns its process id. When the command has ended
// and its output is written, exited is called once, on a goroutine. The error
// is a *proto.Error.
func (t *Table) Start(ctx context.Context, start proto.Start, dial Dialer, exited func(proto.Status)) (pid int, err error) {
	t.mu.Lock()
	_, taken := t.running[start.ID]
	full := len(t.running) >= maxCommands
	if !taken && !full {
		t.running[start.ID] = nil // held while it starts
	}
	t.mu.Unlock()
	switch {
	case taken:
		return 0, proto.Errorf(proto.CodeBadRequest, "command %d runs already", start.ID)
	case full:
		return 0, proto.Errorf(proto.CodeBusy, "%d commands run already", maxCommands)
	}
	forget := func() {
		t.mu.Lock()
		delete(t.running, start.ID)
		t.mu.Unlock()
	}

	c, wait, err := t.start(ctx, start, dial)
	if err != nil {
		forget()
		return 0, err
	}
	t.mu.Lock()
	t.running[start.ID] = c
	t.mu.Unlock()
	go func() {
		status := wait()
		forget()
		exited(status)
	}()
	return c.pid, nil
}

func (t *Table) start(ctx context.Context, start proto.Start, dial Dialer) (c *command, wait func() proto.Status, err error) {
	t.mu.Lock()
	within := t.within
	t.mu.Unlock()
	var spec *spec
	if within(func() { spec, err = prepare(start.Command) }); err != nil {
		return nil, nil, err
	}
	conns, err := dialAll(ctx, start.Streams, dial)
	if err != nil {
		return nil, nil, proto.Errorf(proto.CodeInternal, "streams: %v", err)
	}
	defer func() {
		if err != nil {
			for _, conn := range conns {
				conn.Close()
			}
		}
	}()
	stdio, err := newStdio(start.Command, conns, spec.credential)
	if err != nil {
		return nil, nil, proto.Errorf(proto.CodeInternal, "streams: %v", err)
	}
	defer func() {
		stdio.closeChild()
		if err != nil {
			stdio.close()
		}
	}()

	attr := &syscall.SysProcAttr{Setsid: true, Credential: spec.credential}
	if start.Command.TTY {
		attr.Setctty = true // Ctty 0: the child's stdin
	}
	c = &command{tty: stdio.tty}
	if t.cgroups != nil {
		if c.group, err = t.cgroups.make(start.ID); err != nil {
			return nil, nil, proto.Errorf(proto.CodeInternal, "cgroup: %v", err)
		}
		attr.UseCgroupFD, attr.CgroupFD = true, c.group.fd()
	}
	kills := oomKills()
	pid, died, err := t.reaper.start(func() (pid int, err error) {
		within(func() {
			pid, err = syscall.ForkExec(spec.path, start.Command.Args, &syscall.ProcAttr{
				Dir: spec.dir, Env: spec.env, Files: stdio.child[:], Sys: attr,
			})
		})
		return pid, err
	})
	if err != nil {
		c.group.remove()
		return nil, nil, execError(spec.path, err)
	}
	c.pid = pid
	finish := stdio.pump()
	return c, func() proto.Status {
		ws := <-died
		finish()
		status := proto.Status{OutOfMemory: c.group.oomKilled(kills)}
		if ws.Signaled() {
			status.Signal = int(ws.Signal())
		} else {
			status.Code = ws.ExitStatus()
		}
		c.group.remove()
		return status
	}, nil
}

func dialAll(ctx context.Context, roles []proto.Role, dial Dialer) (map[proto.Role]net.Conn, error) {
	conns := make(map[proto.Role]net.Conn)
	for _, role := range roles {
		conn, err := dial(ctx, role)
		if err != nil {
			for _, c := range conns {
				c.Close()
			}
			return nil, err
		}
		if old := conns[role]; old != nil {
			old.Close()
		}
		conns[role] = conn
	}
	return conns, nil
}

// Signal sends a signal to a running command's process group, on a terminal to
// the group in the foreground.
func (t *Table) Signal(id uint64, signal syscall.Signal) error {
	c, err := t.find(id)
	if err != nil {
		return err
	}
	group := c.pid
	if c.tty != nil {
		if fg, err := ioctlInt(c.tty, unix.TIOCGPGRP); err == nil && fg > 1 {
			group = fg
		}
	}
	err = t.reaper.whileAlive(c.pid, func() error { return syscall.Kill(-group, signal) })
	if err != nil {
		return proto.Errorf(proto.CodeBadRequest, "signal %d: %v", int(signal), err)
	}
	return nil
}

// Kill kills every process that a running command has started.
func (t *Table) Kill(id uint64) error {
	c, err := t.find(id)
	if err != nil {
		return err
	}
	if c.group != nil {
		if err := c.group.kill(); err == nil {
			return nil
		}
	}
	return t.Signal(id, syscall.SIGKILL)
}

// Resize sets the size of a running command's terminal.
func (t *Table) Resize(id uint64, cols, rows uint16) error {
	c, err := t.find(id)
	if err != nil {
		return err
	}
	if c.tty == nil {
		return proto.Errorf(proto.CodeBadRequest, "command %d has no terminal", id)
	}
	return setSize(c.tty, cols, rows)
}

func (t *Table) find(id uint64) (*command, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	c := t.running[id]
	if c == nil {
		return nil, proto.Errorf(proto.CodeNotFound, "no command %d", id)
	}
	return c, nil
}

// StopAll sends SIGTERM to every process but this one and, where that is
// PID 1, waits until all are gone or ctx ends, then sends SIGKILL.
func (t *Table) StopAll(ctx context.Context) {
	syscall.Kill(-1, syscall.SIGTERM)
	syscall.Kill(-1, syscall.SIGCONT) // a stopped process cannot end
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for processes() > 0 {
		select {
		case <-tick.C:
		case <-ctx.Done():
			syscall.Kill(-1, syscall.SIGKILL)
			return
		}
	}
}

// processes counts the processes with a program, but for PID 1: kernel threads
// have an empty cmdline.
func processes() int {
	n := 0
	paths, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, p := range paths {
		if p == "/proc/1/cmdline" {
			continue
		}
		if b, err := os.ReadFile(p); err == nil && len(b) > 0 {
			n++
		}
	}
	return n
}
