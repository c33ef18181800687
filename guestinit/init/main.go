// Command init is PID 1 of every guest: it brings the system up, dials the
// host, and does what the host says until it is told to stop. Under the name secret
// it is the command that asks the host for one.
//
// It has no flags and no console. What goes wrong before the host can be
// reached goes to the kernel's log, in lines that begin with "warder-init:",
// where the host looks when no connection comes.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/mdlayher/vsock"

	"warder/guestinit"
	"warder/guestinit/agent"
	"warder/guestinit/process"
	"warder/guestinit/proto"
	"warder/guestinit/system"
)

// stuckAfter is how long a stage of the boot may take before its name is
// printed.
const stuckAfter = 5 * time.Second

func main() {
	if filepath.Base(os.Args[0]) == secretName {
		os.Exit(secretCommand(os.Args[1:]))
	}
	if os.Getpid() != 1 {
		fmt.Fprintln(os.Stderr, "init: this is a guest's PID 1, there is nothing for it to do here")
		os.Exit(1)
	}
	ctx := context.Background() // this program ends with its machine
	b := newBoot()
	// Before the first child: an orphan may come at any time.
	b.warn("base file systems", system.MountBase())
	table := process.NewTable(ctx, cgroupRoot())
	g := newGuest(table)

	// From here on a signal to PID 1 or the power key stops the guest.
	sigs := make(chan os.Signal, 1)
	signal.Notify(sigs, syscall.SIGTERM, syscall.SIGINT, syscall.SIGPWR)
	go func() {
		s := <-sigs
		g.PowerOff(fmt.Sprintf("signal %v to PID 1", s), defaultGrace)
	}()

	b.stage("load modules")
	config, err := readConfig(guestinit.ConfigPath)
	b.warn("configuration", err)
	b.warn("", system.LoadModules(config.Modules))
	b.warn("", system.LoopbackUp())
	go system.WatchPowerKey(ctx, func() { g.PowerOff("the power key was pressed", defaultGrace) })

	b.stage("reach the host")
	a, err := agent.Connect(ctx, dialHost, proto.Hello{
		Kernel:   system.Kernel(),
		Arch:     runtime.GOARCH,
		Uptime:   system.Uptime(),
		Warnings: b.warnings,
	}, g, table)
	b.done()
	if err != nil {
		b.print("cannot reach the host: " + err.Error())
		g.PowerOff("no control connection", 0)
	} else {
		g.agent.Store(a)
		go func() {
			a.Serve(ctx)
			g.PowerOff("the control connection ended", 0)
		}()
	}
	g.wait()
}

func readConfig(path string) (c guestinit.Config, err error) {
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return c, nil
	} else if err != nil {
		return c, err
	}
	if err := json.Unmarshal(b, &c); err != nil {
		return c, fmt.Errorf("%s: %w", path, err)
	}
	return c, nil
}

// cgroupRoot is where commands' cgroups go, "" where the kernel has none.
func cgroupRoot() string {
	if _, err := os.Stat(system.CgroupRoot + "/cgroup.controllers"); err != nil {
		return ""
	}
	return system.CgroupRoot
}

// boot follows the way to the host and prints where it got stuck.
type boot struct {
	current  atomic.Pointer[string]
	warnings []string
	finished chan struct{}
}

func newBoot() *boot {
	b := &boot{finished: make(chan struct{})}
	b.stage("mount")
	go func() {
		t := time.NewTicker(stuckAfter)
		defer t.Stop()
		last := ""
		for {
			select {
			case <-b.finished:
				return
			case <-t.C:
				if s := *b.current.Load(); s == last {
					b.print("still busy: " + s)
				} else {
					last = s
				}
			}
		}
	}()
	return b
}

func (b *boot) stage(name string) { b.current.Store(&name) }
func (b *boot) done()             { close(b.finished) }

// warn keeps what failed for the hello, and prints it should none be sent.
func (b *boot) warn(what string, err error) {
	if err == nil {
		return
	}
	s := err.Error()
	if what != "" {
		s = what + ": " + s
	}
	b.warnings = append(b.warnings, s)
	b.print(s)
}

func (b *boot) print(s string) { printLine(s) }

// printLine prints a line where the host sees it among the kernel's.
func printLine(s string) { fmt.Fprintln(os.Stderr, "warder-init: "+s) }

// dialHost dials the host's control port, for a while: the driver of vsock may
// be there some time after its module. Without the module there is no use.
func dialHost(ctx context.Context) (net.Conn, error) {
	const patience = 20 * time.Second
	deadline := time.Now().Add(patience)
	for wait := time.Millisecond; ; wait = min(2*wait, 100*time.Millisecond) {
		c, err := vsock.Dial(vsock.Host, proto.Port, nil)
		if err == nil {
			return c, nil
		}
		if errors.Is(err, syscall.EAFNOSUPPORT) || time.Now().After(deadline) {
			return nil, describe(err)
		}
		time.Sleep(wait)
	}
}

// describe gives the errors of vsock's connect their causes.
func describe(err error) error {
	switch {
	case errors.Is(err, syscall.EAFNOSUPPORT):
		return errors.New("no vsock in the guest kernel: its module is missing from the initramfs")
	case errors.Is(err, syscall.ENODEV), errors.Is(err, syscall.EADDRNOTAVAIL), errors.Is(err, syscall.ENETUNREACH):
		return errors.New("no virtio-vsock device: its driver found none, or its module is missing")
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.ECONNREFUSED):
		return errors.New("nobody listens on the host")
	}
	return err
}
