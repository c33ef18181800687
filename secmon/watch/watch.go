// Package watch holds several virtual machines under one pattern engine: the
// system calls that the rules need are trapped in each, and what the rules say
// of them is carried out.
package watch

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"warder/secmon/event"
	"warder/secmon/introspect"
	"warder/secmon/lan"
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
	engine  *pattern.Engine
	strings *event.Strings
	// Events carries what the machines do, Alerts what the engine says of it.
	// Nobody has to read them: what does not fit is counted and left out.
	Events, Alerts *event.Queue
	// Responder carries out what alerts ask for. Default: the watch itself, on the
	// machines that it sees. It is set before anything is attached.
	Responder Responder
	// Cut, unless it is nil, cuts the flow of that number on the network. It is set before
	// anything is attached.
	Cut func(flow uint64)
	// Mirror replaces the machine of that name by a clean one, if it is a supervisor
	// that can be; nil where there is none. It is set before anything is attached.
	Mirror func(vm string) (detail string, err error)
	// Snapshots is the directory that snapshots are written to, "" for none.
	Snapshots string

	responding chan struct{} // a token for each alert whose responses are under way
	responses  sync.WaitGroup

	reloading sync.Mutex // held while libraries are changed

	mu       sync.Mutex
	wants    wants               // what all traps are to be armed for
	machines map[string]*machine // by name
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
	return &Watch{
		engine: engine, strings: event.NewStrings(), wants: needed(rules),
		Events: event.NewQueue(eventQueue), Alerts: event.NewQueue(alertQueue),
		responding: make(chan struct{}, maxResponding),
		machines:   make(map[string]*machine),
	}, nil
}

// Target is a running machine to watch.
type Target struct {
	Name    string // in events; one machine a name
	Machine *vmm.Machine
	Kernel  string            // path of the kernel file that it runs
	Shares  map[string]string // the host's directories by virtio-fs tag
	Port    *lan.Port         // of the LAN, nil if it has none
}

// Attach arms the traps in a machine whose kernel is up. It waits, until ctx
// ends, for the kernel to show itself.
func (w *Watch) Attach(ctx context.Context, t Target) error {
	kernel, err := introspect.OpenWhole(t.Kernel)
	if err != nil {
		return fmt.Errorf("watch %s: %w", t.Name, err)
	}
	m, err := w.reserve(t)
	if err != nil {
		return err
	}
	m.kernel = kernel
	if err := m.first(ctx, w); err != nil {
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
	w.bring(ctx, t.Name, m) // the library may have been changed meanwhile
	return nil
}

func (w *Watch) reserve(t Target) (*machine, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.machines[t.Name] != nil {
		return nil, fmt.Errorf("watch %s: there is a machine of that name", t.Name)
	}
	m := &machine{target: t}
	w.machines[t.Name] = m
	return m, nil
}

// Detach takes the traps off a machine, which still runs.
func (w *Watch) Detach(ctx context.Context, name string) error {
	m := w.remove(name)
	if m == nil {
		return fmt.Errorf("watch: no machine %s", name)
	}
	return m.disarm(ctx)
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
	m.gone.Store(true)
	return m
}

// Run hands out what the rules find by the passing of time, until ctx ends.
// Alerts on sequences need it.
func (w *Watch) Run(ctx context.Context) {
	var telling sync.WaitGroup
	telling.Go(func() { w.tellEvictions(ctx) })
	defer telling.Wait()
	w.engine.Run(ctx, func(a event.Event) { w.raise(a, nil) })
	for _, a := range w.engine.Flush() {
		w.raise(a, nil)
	}
}

// observe is the sink of a machine's traps. It runs on the threads of vCPUs.
func (w *Watch) observe(m *machine, e event.Event) unix.Errno {
	e.Seq = m.seq.Add(1)
	w.strings.Share(&e)
	m.openers.note(&e)
	verdict, alerts := w.engine.Observe(&e)
	e.Call.Denied = uint16(verdict.Errno)
	if len(e.Call.Payload) > maxQueued {
		e.Call.Payload = bytes.Clone(e.Call.Payload[:maxQueued])
	}
	w.Events.Put(e)
	var paused *pausing // the alert says whether that worked
	if verdict.Pause {
		paused = w.pausing(m)
	}
	for _, a := range alerts {
		w.raise(a, paused)
	}
	if paused != nil && e.Kind == event.Syscall {
		m.target.Machine.VCPU(int(e.VCPU)).StandBy(paused.done) // at the hook, until it is resumed
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
		if m.traps.Load() != nil {
			s.Machines[name] = m.stats()
		}
	}
	return s
}
