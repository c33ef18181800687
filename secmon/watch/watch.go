// Package watch holds several virtual machines under one pattern engine: the
// system calls that the rules need are trapped in each, and what the rules say
// of them is carried out.
package watch

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"warder/boot"
	"warder/secmon/act"
	"warder/secmon/event"
	"warder/secmon/introspect"
	"warder/secmon/pattern"
	"warder/secmon/trap"
	"warder/vmm"
)

// How many events of each VM, and alerts, may wait for a reader. Alerts have a
// queue of their own, so that no flood of events pushes one out.
const (
	eventQueue = 2048
	alertQueue = 1024
	// maxQueued is how much of a payload goes into the queue. The engine has
	// seen all of it by then.
	maxQueued = 1024
)

// Watch is one engine and the machines that it sees. It is safe for concurrent
// use.
type Watch struct {
	engine *pattern.Engine
	needs  pattern.Needs
	calls  []string // of needs, those that can be trapped
	// Events carries what the machines do, Alerts what the engine says of it.
	// Nobody has to read them: what does not fit is counted and left out.
	Events, Alerts *event.Queue

	mu       sync.Mutex
	kernels  map[string]*introspect.Kernel // by path
	machines map[string]*machine           // by name
}

type machine struct {
	traps  atomic.Pointer[trap.Traps] // nil until armed
	shares *trap.Shares
	vm     *vmm.Machine
}

// New makes a watch that evaluates a library of rules.
func New(rules *pattern.Library) (*Watch, error) {
	if rules == nil {
		return nil, errors.New("watch: no rules")
	}
	engine, err := pattern.New(rules, pattern.DefaultLimits)
	if err != nil {
		return nil, err
	}
	needs := rules.Needs()
	calls := slices.DeleteFunc(slices.Clone(needs.Syscalls), func(c string) bool { return !trap.Known(c) })
	return &Watch{
		engine: engine, needs: needs, calls: calls,
		Events: event.NewQueue(eventQueue), Alerts: event.NewQueue(alertQueue),
		kernels: make(map[string]*introspect.Kernel), machines: make(map[string]*machine),
	}, nil
}

// Target is a running machine to watch.
type Target struct {
	Name    string // in events; one machine a name
	Machine *vmm.Machine
	Kernel  string            // path of the kernel file that it runs
	Shares  map[string]string // the host's directories by virtio-fs tag
}

// Attach arms the traps in a machine whose kernel is up. It waits, until ctx
// ends, for the kernel to show itself.
func (w *Watch) Attach(ctx context.Context, t Target) error {
	kernel, err := w.kernel(t.Kernel)
	if err != nil {
		return fmt.Errorf("watch %s: %w", t.Name, err)
	}
	m, err := w.reserve(t.Name)
	if err != nil {
		return err
	}
	if err := w.arm(ctx, m, t, kernel); err != nil {
		w.mu.Lock()
		delete(w.machines, t.Name)
		w.mu.Unlock()
		return fmt.Errorf("watch %s: %w", t.Name, err)
	}
	traps := m.traps.Load()
	w.Events.Put(event.Event{
		Time: time.Now().UnixNano(), Kind: event.Lifecycle, VM: t.Name,
		Message: fmt.Sprintf("watched: %d functions of its kernel are hooked", len(traps.Functions())),
	})
	return nil
}

func (w *Watch) reserve(name string) (*machine, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.machines[name] != nil {
		return nil, fmt.Errorf("watch %s: there is a machine of that name", name)
	}
	m := &machine{}
	w.machines[name] = m
	return m, nil
}

func (w *Watch) arm(ctx context.Context, m *machine, t Target, kernel *introspect.Kernel) error {
	shares, err := trap.OpenShares(t.Shares)
	if err != nil {
		return err
	}
	traps, err := trap.Arm(ctx, trap.Of(t.Machine), trap.Config{
		VM: t.Name, Kernel: kernel, Calls: w.calls, Payload: w.needs.Payload, Process: w.needs.Process, Shares: shares, Sink: w.observe,
	})
	if err != nil {
		return errors.Join(err, shares.Close())
	}
	m.shares, m.vm = shares, t.Machine
	m.traps.Store(traps)
	acts := act.Watch(t.Machine, act.Config{VM: t.Name, Kernel: kernel, Sink: func(e event.Event) { w.observe(e) }})
	acts.Located(traps.Guest())
	return nil
}

// Detach takes the traps off a machine, which still runs.
func (w *Watch) Detach(ctx context.Context, name string) error {
	m := w.remove(name)
	if m == nil {
		return fmt.Errorf("watch: no machine %s", name)
	}
	m.vm.OnAct(nil)
	return errors.Join(m.traps.Load().Disarm(ctx), m.shares.Close())
}

// Forget drops a machine that has ended.
func (w *Watch) Forget(name string) {
	if m := w.remove(name); m != nil {
		m.shares.Close()
	}
}

// remove takes an armed machine off the list, nil when there is none.
func (w *Watch) remove(name string) *machine {
	w.mu.Lock()
	defer w.mu.Unlock()
	m := w.machines[name]
	if m == nil || m.traps.Load() == nil {
		return nil
	}
	delete(w.machines, name)
	return m
}

// kernel reads what a kernel file says, once.
func (w *Watch) kernel(path string) (*introspect.Kernel, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if k := w.kernels[path]; k != nil {
		return k, nil
	}
	cache, err := boot.CacheDir()
	if err != nil {
		return nil, err
	}
	opened, err := boot.Open(path, filepath.Join(cache, "vmlinux"))
	if err != nil {
		return nil, err
	}
	k, err := introspect.LoadBoot(opened)
	if err != nil {
		return nil, fmt.Errorf("kernel %s: %w", path, err)
	}
	w.kernels[path] = k
	return k, nil
}

// Run hands out what the rules find by the passing of time, until ctx ends.
// Alerts on sequences need it.
func (w *Watch) Run(ctx context.Context) {
	w.engine.Run(ctx, func(a event.Event) { w.Alerts.Put(a) })
	for _, a := range w.engine.Flush() {
		w.Alerts.Put(a)
	}
}

// observe is the sink of all traps. It runs on the threads of vCPUs.
func (w *Watch) observe(e event.Event) unix.Errno {
	verdict, alerts := w.engine.Observe(&e)
	e.Call.Denied = uint16(verdict.Errno)
	if len(e.Call.Payload) > maxQueued {
		e.Call.Payload = bytes.Clone(e.Call.Payload[:maxQueued])
	}
	w.Events.Put(e)
	for _, a := range alerts {
		w.Alerts.Put(a)
	}
	return verdict.Errno
}

// Stats are the counts of the engine and of the traps of each machine.
type Stats struct {
	Engine     pattern.Stats
	Machines   map[string]trap.Stats
	LostEvents uint64
	LostAlerts uint64
}

// Stats gives the counts so far.
func (w *Watch) Stats() Stats {
	w.mu.Lock()
	defer w.mu.Unlock()
	s := Stats{
		Engine: w.engine.Stats(), Machines: make(map[string]trap.Stats),
		LostEvents: w.Events.Lost(), LostAlerts: w.Alerts.Lost(),
	}
	for name, m := range w.machines {
		if traps := m.traps.Load(); traps != nil {
			s.Machines[name] = traps.Stats()
		}
	}
	return s
}
