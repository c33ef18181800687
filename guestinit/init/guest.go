package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"warder/guestinit/agent"
	"warder/guestinit/dhcp"
	"warder/guestinit/process"
	"warder/guestinit/proto"
	"warder/guestinit/system"
)

const (
	// defaultGrace is how long processes get to end when nobody said.
	defaultGrace = 5 * time.Second
	maxGrace     = 5 * time.Minute
)

// guest is the system as the host sees it.
type guest struct {
	table *process.Table
	agent atomic.Pointer[agent.Agent]

	root      *system.Root // nil without one; set before the first command
	resolvers system.Resolvers

	stop   sync.Once
	ending chan struct{} // closed when the guest is to stop
	grace  time.Duration // set by then
}

func newGuest(table *process.Table) *guest {
	return &guest{table: table, ending: make(chan struct{})}
}

// Setup is agent.System's.
func (g *guest) Setup(s proto.Setup) error {
	var errs []error
	if len(s.Entropy) > 0 {
		errs = append(errs, system.AddEntropy(s.Entropy))
	}
	if !s.Time.IsZero() {
		errs = append(errs, system.SetClock(s.Time))
	}
	if s.Hostname != "" {
		errs = append(errs, system.SetHostname(s.Hostname))
	}
	for _, d := range s.ReadOnly {
		errs = append(errs, system.SetReadOnly(d))
	}
	if s.Root != nil {
		if err := g.openRoot(*s.Root); err != nil {
			return errors.Join(append(errs, err)...)
		}
	}
	errs = append(errs, g.resolvers.Set("", s.Resolvers))
	for _, i := range s.Interfaces {
		errs = append(errs, g.setInterface(i, s.Hostname))
	}
	if len(s.Secrets) > 0 {
		errs = append(errs, g.fetchSecrets(s.Secrets))
	}
	for _, m := range s.Mounts {
		g.within(func() { errs = append(errs, system.Mount(m)) })
	}
	if len(s.Shortages) > 0 {
		g.watchShortages(s.Shortages)
	}
	if s.Watchdog > 0 {
		errs = append(errs, system.PetWatchdog(context.Background(), s.Watchdog))
	}
	return errors.Join(errs...)
}

// openRoot has commands see another root file system from now on.
func (g *guest) openRoot(r proto.Root) error {
	if g.root != nil {
		return errors.New("there is a root file system already")
	}
	root, err := system.OpenRoot(r)
	if err != nil {
		return err
	}
	g.root = root
	g.table.Within(root.Do)
	g.resolvers.AlsoWithin(root.Do)
	return nil
}

// fetchSecrets asks the host for secrets and puts them where commands find them.
func (g *guest) fetchSecrets(names []string) (err error) {
	values := make(map[string][]byte)
	for _, name := range names {
		value, err := askFor(name)
		if err != nil {
			return fmt.Errorf("secret %s: %w", name, err)
		}
		defer clear(value)
		values[name] = value
	}
	g.within(func() { err = system.WriteSecrets(values) })
	return err
}

// within runs f where commands are.
func (g *guest) within(f func()) {
	if g.root == nil {
		f()
		return
	}
	g.root.Do(f)
}

// setInterface brings an interface up, and has it keep the address that a server
// lends it if it is to have one.
func (g *guest) setInterface(i proto.Interface, hostname string) error {
	link, err := system.SetInterface(i)
	if err != nil || !i.DHCP {
		return err
	}
	ctx := context.Background() // this program ends with its machine
	var was dhcp.Lease
	client := &dhcp.Client{
		Interface: link.Name, Hostname: hostname,
		Apply: func(now dhcp.Lease) error {
			var servers []string
			for _, a := range now.Resolvers {
				servers = append(servers, a.String())
			}
			err := errors.Join(system.SetLease(link, was, now), g.resolvers.Set(link.Name, servers))
			was = now
			return err
		},
		Log: func(err error) { printLine(err.Error()) },
	}
	if err := client.Acquire(ctx); err != nil {
		return err
	}
	go client.Keep(ctx)
	return nil
}

// watchShortages has the host told when the guest is short of something. Without what
// the kernel does not watch, the host sees it a little later.
func (g *guest) watchShortages(of []string) {
	err := system.WatchShortages(context.Background(), of, g.table.Cgroup(), func(resource string) {
		if a := g.agent.Load(); a != nil {
			_ = a.Short(resource) // should it fail, the connection has, and the guest stops
		}
	})
	if err != nil {
		printLine(err.Error())
	}
}

// Info is agent.System's.
func (g *guest) Info() (proto.Info, error) { return system.Info() }

// SetCPUs is agent.System's.
func (g *guest) SetCPUs(online int) (proto.CPUs, error) { return system.SetCPUs(online) }

// PowerOff is agent.System's. The first call's grace holds.
func (g *guest) PowerOff(reason string, grace time.Duration) {
	g.stop.Do(func() {
		g.grace = min(max(grace, 0), maxGrace)
		if a := g.agent.Load(); a != nil {
			go a.Stopping(reason)
		}
		close(g.ending)
	})
}

// wait waits until the guest is to stop, and stops it. It does not return.
func (g *guest) wait() {
	<-g.ending
	ctx, cancel := context.WithTimeout(context.Background(), g.grace)
	g.table.StopAll(ctx)
	cancel()
	g.within(func() { system.UnmountAll() }) // what failed to unmount is synced here
	if g.root != nil {
		if err := g.root.Close(); err != nil {
			printLine(err.Error())
		}
		system.UnmountAll()
	}
	unix.Sync()
	unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF)
	select {} // PID 1 must not end
}
