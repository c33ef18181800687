// Package act reports what a guest does to its machine as events: writes of
// privileged registers, accesses that reach nothing, calls to firmware and to
// warder, the guest's end by its own doing.
//
// An ordinary guest does little of it after it has booted. What one does without
// end is reported at a bounded rate; each event says how many it stands for.
package act

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"warder/secmon/event"
	"warder/secmon/introspect"
	"warder/vmm"
	"warder/vmm/pagetable"
)

// Actions of events, for those acts that are told from others of their kind.
const (
	// EntryMoved is a write of the register by which system calls enter the kernel,
	// after it had been set.
	EntryMoved = "syscall-entry-moved"
	// HaltStorm is a guest that says again and again that it has nothing to do.
	HaltStorm = "halt-storm"
)

// Bounds of what is reported of one kind of act, and of what a hypercall reports.
const (
	burst     = 32 // events at once
	perSecond = 16
	maxReport = 4096 // bytes
)

// CPU is a vCPU at an act; *vmm.VCPU is one.
type CPU interface {
	PC() uint64
	AddressSpace() (pagetable.Space, error)
}

// Config says whose acts are reported and to whom.
type Config struct {
	VM string
	// Kernel names addresses in the guest's kernel; nil for none.
	Kernel *introspect.Kernel
	Memory Memory
	// Sink takes the events, on the vCPU's thread.
	Sink func(event.Event)
}

// Memory is a guest's physical memory; *guestmem.Memory is one.
type Memory = pagetable.Reader

// Watcher reports the acts of one machine.
type Watcher struct {
	cfg   Config
	now   func() time.Time
	guest atomic.Pointer[introspect.Guest]
	seq   atomic.Uint64

	mu      sync.Mutex
	buckets map[string]*bucket

	stop func() // what Watch has begun
}

// bucket bounds the rate of one kind of act.
type bucket struct {
	left float64
	at   time.Time
	held uint64 // acts since the last event
}

// New makes a watcher. [Watcher.Act] is what a machine is to tell.
func New(cfg Config) *Watcher {
	return &Watcher{cfg: cfg, now: time.Now, buckets: make(map[string]*bucket)}
}

// Watch has a machine tell what its guest does.
func Watch(m *vmm.Machine, cfg Config) *Watcher {
	cfg.Memory = m.Memory()
	w := New(cfg)
	m.OnAct(func(v *vmm.VCPU, a vmm.Act) uint64 { return w.Act(v, a) })
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		w.storms(ctx, m, stormRate)
	}()
	w.stop = func() {
		m.OnAct(nil)
		cancel()
		<-ended
	}
	return w
}

// Close ends what Watch has begun.
func (w *Watcher) Close() { w.stop() }

// Act reports an act, and gives what becomes of it if it is a hypercall. It may be
// called by several vCPUs at once.
func (w *Watcher) Act(cpu CPU, a vmm.Act) uint64 {
	if a.Kind == vmm.RegisterWrite && a.Old == a.Value {
		return 0
	}
	e := event.Event{Kind: event.Privileged, VM: w.cfg.VM, VCPU: int32(a.VCPU), Action: a.Kind.String(), Message: a.Message}
	access := &event.Access{
		Name: a.Name, Addr: a.Addr, Port: a.Port, Size: a.Size, Write: a.Write, Old: a.Old, Value: a.Value, Refused: a.Refused, Args: a.Args,
	}
	e.Access = access
	result := uint64(0)
	switch a.Kind {
	case vmm.RegisterWrite:
		w.register(cpu, &e, a)
	case vmm.Hypercall:
		result = w.hypercall(&e, a)
	}
	if e.Message == "" {
		e.Message = message(&a)
	}
	count, ok := w.allow(e.Action + " " + a.Name)
	if !ok && a.Kind != vmm.Crash && e.Action != EntryMoved {
		return result
	}
	now := w.now()
	access.Count = count
	if a.Kind != vmm.Crash {
		access.PC, access.PCSymbol = cpu.PC(), w.near(cpu.PC())
	}
	e.Time, e.Seq = now.UnixNano(), w.seq.Add(1)
	w.cfg.Sink(e)
	return result
}

// allow takes one event out of the bucket, and says how many acts it stands for.
func (w *Watcher) allow(what string) (count uint64, ok bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	now := w.now()
	b := w.buckets[what]
	if b == nil {
		b = &bucket{left: burst, at: now}
		w.buckets[what] = b
	}
	b.left = min(burst, b.left+perSecond*now.Sub(b.at).Seconds())
	b.at = now
	b.held++
	if b.left < 1 {
		return b.held, false
	}
	count, b.held = b.held, 0
	b.left--
	return count, true
}

// register tells a system-call entry that was moved from one that was set.
func (w *Watcher) register(cpu CPU, e *event.Event, a vmm.Act) {
	if a.Name != "LSTAR" {
		return
	}
	if a.Old == 0 {
		w.locate(cpu, a.Value) // as the kernel boots
	} else {
		w.locate(cpu, a.Old)
		e.Action = EntryMoved
	}
	e.Access.OldSymbol, e.Access.Symbol = w.near(a.Old), w.near(a.Value)
	if a.Old != 0 {
		e.Message = fmt.Sprintf("system calls no longer enter the kernel at %s but at %s", place(a.Old, e.Access.OldSymbol), place(a.Value, e.Access.Symbol))
	}
}

func place(addr uint64, symbol string) string {
	if symbol == "" {
		return fmt.Sprintf("%#x, which is outside the kernel", addr)
	}
	return fmt.Sprintf("%#x (%s)", addr, symbol)
}

// locate finds the guest's kernel by an address in it.
func (w *Watcher) locate(cpu CPU, anchor uint64) {
	if w.cfg.Kernel == nil || w.guest.Load() != nil {
		return
	}
	space, err := cpu.AddressSpace()
	if err != nil {
		return
	}
	if g, err := w.cfg.Kernel.Locate(view{space, w.cfg.Memory}, anchor); err == nil {
		w.guest.Store(g)
	}
}

// near names an address in the kernel's code, "" for any other.
func (w *Watcher) near(addr uint64) string {
	g := w.guest.Load()
	if g == nil {
		return ""
	}
	start, err := g.Addr("_text")
	end, err2 := g.Addr("_etext")
	if err != nil || err2 != nil || addr < start || addr >= end {
		return ""
	}
	return g.Near(addr)
}

// Located tells the watcher where the guest has its kernel, so that addresses
// have names from then on.
func (w *Watcher) Located(g *introspect.Guest) { w.guest.Store(g) }

// hypercall answers the calls of docs/hypercalls.md that are events.
func (w *Watcher) hypercall(e *event.Event, a vmm.Act) uint64 {
	switch a.Value {
	case vmm.HypercallMark:
		e.Message = fmt.Sprintf("the guest marks %#x", a.Args[0])
		return 0
	case vmm.HypercallReport:
		if a.Args[1] > maxReport {
			e.Message = fmt.Sprintf("the guest reports %d bytes, of which there may be %d", a.Args[1], maxReport)
			return vmm.NotSupported
		}
		data := make([]byte, a.Args[1])
		if err := w.cfg.Memory.ReadAt(data, address(a.Args[0])); err != nil {
			e.Message = fmt.Sprintf("the guest reports %d bytes at %#x, where it has no memory", a.Args[1], a.Args[0])
			return vmm.NotSupported
		}
		e.Access.Data = data
		e.Message = "the guest reports something"
		return 0
	}
	return vmm.NotSupported
}

func message(a *vmm.Act) string {
	verb, preposition := "reads", "from"
	if a.Write {
		verb, preposition = "writes", "to"
	}
	switch a.Kind {
	case vmm.RegisterWrite:
		if a.Refused {
			return fmt.Sprintf("the guest may not set %s to %#x", a.Name, a.Value)
		}
		return fmt.Sprintf("the guest sets %s to %#x", a.Name, a.Value)
	case vmm.Stray:
		what := "address"
		if a.Port {
			what = "port"
		}
		return fmt.Sprintf("the guest %s %d bytes %s %s %#x, where nothing is", verb, a.Size, preposition, what, a.Addr)
	case vmm.FirmwareCall:
		return fmt.Sprintf("the guest makes %s %#x, which nobody answers", a.Name, a.Value)
	case vmm.Hypercall:
		return fmt.Sprintf("the guest makes hypercall %#x, which nobody answers", a.Value)
	}
	return a.Message
}
