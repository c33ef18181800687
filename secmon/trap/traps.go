package trap

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"warder/secmon/event"
	"warder/secmon/introspect"
)

// Sink takes the event of a call that is about to run and says with which
// error the call is to fail, 0 to let it run. It is called on the vCPU's
// thread while the guest waits: it must be quick and safe for concurrent use.
type Sink func(event.Event) unix.Errno

// Config says what to trap.
type Config struct {
	VM     string // the machine's name in events
	Kernel *introspect.Kernel
	// Calls are the names of system calls, as in "openat".
	Calls []string
	// Payload is how many bytes of what is written to a share are reported.
	Payload int
	// Process has each event say which program the process runs, with which
	// arguments; of an execve also where, and the parent's.
	Process bool
	// Arguments has each event carry what all parameters of the call point to, and
	// Data how many bytes of a buffer.
	Arguments bool
	Data      int
	Shares    *Shares // nil when the machine has none
	Sink      Sink
}

// Stats count what the traps did.
type Stats struct {
	Hits      uint64
	Denied    uint64
	Strays    uint64 // hits at an address that is no site of ours
	Undecoded uint64 // events with something missing
}

// Traps are hooks in one machine.
type Traps struct {
	cfg Config
	m   Machine

	mu    sync.Mutex // held while hooks are put on or taken off
	armed bool
	found atomic.Pointer[found]

	programs  programs
	processes processes

	seq, hits, denied, strays, undecoded atomic.Uint64
}

// found is the kernel of the machine and the sites in it. It is not changed
// once it is there.
type found struct {
	guest *introspect.Guest
	sites map[uint64]*site // by the address of the NOP
}

// locateEvery is how often a machine is looked at whose vCPUs all hide the
// kernel, because they are in user mode or have not yet set it up.
const locateEvery = 10 * time.Millisecond

// Arm hooks the handlers of the calls in a running machine. When one of them
// cannot be hooked, none is.
//
// It waits, until ctx ends, for the kernel to show itself in the registers of
// a vCPU. The error wraps introspect.ErrNotLocated when it never did and
// [ErrNotPatchable] when a handler has no NOP.
func Arm(ctx context.Context, m Machine, cfg Config) (*Traps, error) {
	if cfg.Kernel == nil || cfg.Sink == nil {
		return nil, errors.New("trap: a kernel and a sink are needed")
	}
	t := &Traps{cfg: cfg, m: m}
	if err := m.SetHook(t.hook); err != nil {
		return nil, fmt.Errorf("trap: %s: %w", cfg.VM, err)
	}
	if err := t.whenLocated(ctx, t.install); err != nil {
		return nil, errors.Join(fmt.Errorf("trap: %s: %w", cfg.VM, err), m.SetHook(nil))
	}
	return t, nil
}

// whenLocated does something to the paused machine, as soon as that can find
// the kernel.
func (t *Traps) whenLocated(ctx context.Context, do func() error) error {
	for {
		err := t.m.WithVCPUsStopped(do)
		if !errors.Is(err, introspect.ErrNotLocated) {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w (%w)", err, ctx.Err())
		case <-time.After(locateEvery):
		}
	}
}

// install finds the sites and patches them. The machine stands still.
func (t *Traps) install() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	v, guest, err := t.locate()
	if err != nil {
		return err
	}
	sites, err := findSites(v, guest, t.cfg.Calls)
	if err != nil {
		return err
	}
	t.found.Store(&found{guest, sites})
	hook := patches[guest.Arch()].hook
	var done []*site
	for _, s := range sites {
		if err := writeCode(v, s.at, hook); err != nil {
			err = fmt.Errorf("%s: %w", s.name, err)
			for _, s := range done {
				err = errors.Join(err, writeCode(v, s.at, s.old))
			}
			return err
		}
		done = append(done, s)
	}
	t.armed = true
	return nil
}

// locate finds the kernel through the first vCPU that shows it.
func (t *Traps) locate() (view, *introspect.Guest, error) {
	err := introspect.ErrNotLocated
	for _, cpu := range t.m.CPUs() {
		space, e := cpu.AddressSpace()
		if e != nil {
			return view{}, nil, e
		}
		anchor, e := cpu.SyscallEntry()
		if e != nil {
			return view{}, nil, e
		}
		v := view{space, t.m.Memory()}
		guest, e := t.cfg.Kernel.Locate(v, anchor)
		if e == nil {
			return v, guest, nil
		}
		err = e
	}
	return view{}, nil, err
}

// writeCode replaces instructions and sees to it that CPUs fetch the new ones.
func writeCode(v view, at uint64, code []byte) error {
	m, err := v.space.Translate(v.mem, at)
	if err != nil {
		return err
	}
	if left := m.PageSize - at%m.PageSize; left < uint64(len(code)) {
		return fmt.Errorf("a NOP at %#x crosses a page", at)
	}
	p, err := v.mem.Slice(m.Addr, uint64(len(code)))
	if err != nil {
		return err
	}
	copy(p, code)
	syncCode(p)
	return nil
}

// Disarm takes the hooks off; the kernel's code is then as it was. A site that
// somebody else has changed meanwhile is left as it is and reported. It waits
// as Arm does for the kernel to show itself.
func (t *Traps) Disarm(ctx context.Context) error {
	if err := t.whenLocated(ctx, t.remove); err != nil {
		return fmt.Errorf("trap: %s: %w", t.cfg.VM, err)
	}
	return t.m.SetHook(nil)
}

func (t *Traps) remove() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.armed {
		return nil
	}
	v, guest, err := t.locate()
	if err != nil {
		return err
	}
	t.armed = false
	hook := patches[guest.Arch()].hook
	var errs []error
	for _, s := range t.found.Load().sites {
		now := make([]byte, len(hook))
		if err := v.ReadAt(now, s.at); err != nil {
			errs = append(errs, err)
			continue
		}
		if !bytes.Equal(now, hook) {
			errs = append(errs, fmt.Errorf("%s was changed to % x while it was hooked", s.name, now))
			continue
		}
		if err := writeCode(v, s.at, s.old); err != nil {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// Functions lists the kernel functions that are hooked.
func (t *Traps) Functions() []string {
	var names []string
	for _, s := range t.found.Load().sites {
		names = append(names, s.name)
	}
	slices.Sort(names)
	return names
}

// Guest is the running kernel as it was found.
func (t *Traps) Guest() *introspect.Guest { return t.found.Load().guest }

// Stats gives the counts so far.
func (t *Traps) Stats() Stats {
	return Stats{t.hits.Load(), t.denied.Load(), t.strays.Load(), t.undecoded.Load()}
}

// hook is what a vCPU does when it runs into one.
func (t *Traps) hook(cpu CPU) (errno unix.Errno, ours bool) {
	f := t.found.Load()
	if f == nil || f.sites[cpu.PC()] == nil {
		t.strays.Add(1)
		return 0, false
	}
	t.hits.Add(1)
	d := decoder{t: t, guest: f.guest, cpu: cpu, site: f.sites[cpu.PC()]}
	if !d.decode() {
		return 0, true
	}
	d.event.Seq = t.seq.Add(1)
	if d.event.Call.Missing != 0 && !d.site.check {
		t.undecoded.Add(1)
	}
	if errno = t.cfg.Sink(d.event); errno != 0 {
		t.denied.Add(1)
	}
	return errno, true
}
