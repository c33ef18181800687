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

	"warder/secmon/introspect"
	"warder/vmm"
	"warder/vmm/icache"
	"warder/vmm/pagetable"
)

// hooks are those of one machine. Everybody who traps calls in it shares them: a
// function can be hooked once.
type hooks struct {
	m Machine

	mu      sync.Mutex // held while hooks are put on or taken off
	clients []*Traps
	set     bool // the machine calls us
	away    bool // the hooks are off, for the guest's own tracer

	now atomic.Pointer[armed]

	programs  programs
	processes processes
	returns   returns

	moved atomic.Bool // a vCPU's kernel has come to be translated by other tables
}

// armed is the kernel of the machine and the sites in it. It is not changed
// once it is there.
type armed struct {
	guest   *introspect.Guest
	sites   map[uint64]*site // by the address of the hook
	names   map[string]*site
	clients []*Traps
	// begins and ends are where the guest's own tracer does, nil where it has none.
	// Hooked returns go to begins.
	begins, ends *site
	trouble      string           // why there are none of them
	decoders     map[int]*decoder // by the vCPU's number; one at a time runs into a hook
	shares       *Shares          // of the first client that has some
	wants        wants            // of all clients together
}

// wants is what clients want to know of a call.
type wants struct {
	process, arguments, result bool
	flows                      bool
	payload, data              int
}

func (w *wants) add(c *Config) {
	w.process = w.process || c.Process
	w.arguments = w.arguments || c.Arguments
	w.result = w.result || c.Result != nil
	w.flows = w.flows || c.Flow != nil && len(c.Flows) > 0
	w.payload, w.data = max(w.payload, c.Payload), max(w.data, c.Data)
}

// of gives the hooks of a machine.
func of(m Machine) *hooks {
	return m.Owner(func() any { return &hooks{m: m} }).(*hooks)
}

// locateEvery is how often a machine is looked at whose vCPUs all hide the
// kernel, because they are in user mode or have not yet set it up.
const locateEvery = 10 * time.Millisecond

// join adds a client and puts its hooks on. When one of them cannot be put on,
// none is.
func (h *hooks) join(ctx context.Context, t *Traps) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.set {
		if err := h.m.SetHook(h.hook); err != nil {
			return err
		}
		h.set = true
	}
	clients := append(slices.Clone(h.clients), t)
	if err := h.whenLocated(ctx, func() error { return h.change(clients) }); err != nil {
		return errors.Join(err, h.unset())
	}
	return nil
}

// leave takes a client's hooks off, but for those that others want as well.
func (h *hooks) leave(ctx context.Context, t *Traps) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !slices.Contains(h.clients, t) {
		return nil
	}
	clients := slices.DeleteFunc(slices.Clone(h.clients), func(c *Traps) bool { return c == t })
	if err := h.whenLocated(ctx, func() error { return h.change(clients) }); err != nil {
		return err
	}
	return h.unset()
}

// unset has the machine forget us, when nobody is left and every hooked return
// has come back.
func (h *hooks) unset() error {
	if !h.set || len(h.clients) > 0 || h.returns.pending() > 0 {
		return nil
	}
	h.set = false
	return h.m.SetHook(nil)
}

// whenLocated does something to the stopped machine, as soon as that can find
// the kernel and the kernel is ready for it.
func (h *hooks) whenLocated(ctx context.Context, do func() error) error {
	for {
		err := h.m.WithVCPUsStopped(do)
		if !errors.Is(err, introspect.ErrNotLocated) && !errors.Is(err, errNotReady) {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w (%w)", err, ctx.Err())
		case <-time.After(locateEvery):
		}
	}
}

// change makes the hooks those that the clients want. The machine stands still.
// An error that a site could not be given back is that of a change that has
// been made.
func (h *hooks) change(clients []*Traps) error {
	v, guest, err := h.locate(clients)
	if err != nil {
		return err
	}
	before := h.now.Load()
	if before == nil {
		before = &armed{}
	}
	after, err := h.plan(v, guest, before, clients)
	if err != nil {
		return err
	}
	var done []*site
	for at, s := range after.sites {
		if before.sites[at] != nil || h.away {
			continue // away, they are put on when the guest's tracer is done
		}
		if err := writeCode(v, s.at, s.hook); err != nil {
			err = fmt.Errorf("%s: %w", s.name, err)
			for _, s := range done {
				err = errors.Join(err, writeCode(v, s.at, s.old))
			}
			return err
		}
		done = append(done, s)
	}
	var errs []error
	for at, s := range before.sites {
		if after.sites[at] == nil && (!h.away || s == before.begins || s == before.ends) {
			errs = append(errs, s.giveBack(v))
		}
	}
	h.away = h.away && after.ends != nil
	h.clients = clients
	h.now.Store(after)
	if after.trouble != "" && after.trouble != before.trouble {
		h.notice(after.trouble)
	}
	return errors.Join(errs...)
}

// plan finds the sites that clients want.
func (h *hooks) plan(v view, guest *introspect.Guest, before *armed, clients []*Traps) (*armed, error) {
	a := &armed{guest: guest, clients: clients, sites: make(map[uint64]*site), names: make(map[string]*site), decoders: make(map[int]*decoder)}
	for _, cpu := range h.m.CPUs() {
		if a.decoders[cpu.ID()] = before.decoders[cpu.ID()]; a.decoders[cpu.ID()] == nil {
			mem := h.m.Memory()
			a.decoders[cpu.ID()] = &decoder{view: pages{TLB: pagetable.NewTLB(mem), mem: mem}}
		}
	}
	p := planner{view: v, guest: guest, before: before, plan: a}
	for _, t := range clients {
		a.wants.add(&t.cfg)
		if a.shares == nil {
			a.shares = t.cfg.Shares
		}
		if err := p.calls(t); err != nil {
			return nil, err
		}
	}
	// A call that is under way comes back to a hook, whoever still wants its result. It
	// cannot be given its own address back: its task may have returned already, and
	// stand at the hook with nothing on its stack that tells.
	if len(clients) == 0 && h.returns.pending() == 0 {
		return a, nil
	}
	switch err := p.tracer(); {
	case err == nil:
	case a.wants.result || errors.Is(err, errNotReady):
		return nil, err
	default:
		a.trouble = fmt.Sprintf("the guest's own tracer will find hooks in its way: %v", err)
	}
	return a, nil
}

// locate finds the kernel through the first vCPU that shows it.
func (h *hooks) locate(clients []*Traps) (view, *introspect.Guest, error) {
	kernel := (*introspect.Kernel)(nil)
	if a := h.now.Load(); a != nil {
		kernel = a.guest.Kernel
	}
	if kernel == nil {
		kernel = clients[0].cfg.Kernel
	}
	err := introspect.ErrNotLocated
	for _, cpu := range h.m.CPUs() {
		space, e := cpu.AddressSpace()
		if e != nil {
			return view{}, nil, e
		}
		anchor, e := cpu.SyscallEntry()
		if e != nil {
			return view{}, nil, e
		}
		v := view{space, h.m.Memory()}
		guest, e := kernel.Locate(v, anchor)
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
		return fmt.Errorf("a hook at %#x would cross a page", at)
	}
	p, err := v.mem.Slice(m.Addr, uint64(len(code)))
	if err != nil {
		return err
	}
	copy(p, code)
	icache.Sync(p)
	return nil
}

// hook is what a vCPU does when it runs into one.
func (h *hooks) hook(cpu CPU) vmm.TrapAction {
	a := h.now.Load()
	if a == nil {
		return vmm.Decline
	}
	s := a.sites[cpu.PC()]
	if s == nil {
		for _, t := range a.clients {
			t.strays.Add(1)
		}
		return vmm.Decline
	}
	if s == a.begins {
		if back, ok := h.returned(a, cpu); ok {
			return vmm.Resume(back)
		}
	}
	through, err := s.through(cpu)
	if err != nil {
		return vmm.Decline
	}
	switch s {
	case a.begins:
		return h.aside(h.stepAside, through)
	case a.ends:
		return h.aside(h.stepBack, through)
	}
	return h.hit(a, s, cpu, through)
}

// Unhook puts into code, which was read at an address of a machine's kernel, what hooks
// stand there in place of.
func Unhook(m Machine, at uint64, code []byte) {
	a := of(m).now.Load()
	if a == nil {
		return
	}
	for _, s := range a.sites {
		// The part of the hook, and of the code, that is of both.
		first, begin := max(int64(at-s.at), 0), max(int64(s.at-at), 0)
		n := min(int64(len(s.hook))-first, int64(len(code))-begin)
		if n <= 0 {
			continue
		}
		if there := code[begin : begin+n]; bytes.Equal(there, s.hook[first:first+n]) {
			copy(there, s.old[first:first+n])
		}
	}
}
