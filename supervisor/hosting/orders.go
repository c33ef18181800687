package hosting

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"warder/supervisor/link"
	"warder/supervisor/services"
	"warder/supervisor/verify"
)

func errNoVM(name string) error { return fmt.Errorf("%w: %s has no VM now", services.ErrState, name) }

// errNobody is the error for what no request has asked for.
var errNobody = errors.New("nobody has asked for that")

// handle does what a supervisor orders.
func (h *Host) handle(ctx context.Context, method string, args json.RawMessage) (any, error) {
	switch method {
	case link.Usage:
		used, available := h.machines.Measure()
		return link.Used{Available: available, Used: used}, nil
	case link.Claim:
		return with(args, func(n link.Name) (any, error) { return h.claim(n.Name) })
	case link.Boot:
		return with(args, func(id link.VM) (any, error) { return h.boot(ctx, id) })
	case link.Run:
		return h.with(args, func(v *held) (any, error) { return nil, v.run(ctx) })
	case link.Exited:
		return h.with(args, func(v *held) (any, error) {
			status, err := v.exited.wait(ctx)
			return link.Ending{Status: status}, err
		})
	case link.Check:
		return h.with(args, func(v *held) (any, error) { return v.check(ctx) })
	case link.Ended:
		return h.with(args, func(v *held) (any, error) { return nil, v.end(ctx) })
	case link.Destroy:
		d, err := link.Args[link.Destruction](args)
		if err != nil {
			return nil, err
		}
		v, err := h.holding(d.VM)
		if v == nil {
			return nil, err // there is none, as it should be
		}
		return nil, v.destroy(ctx, d.Grace, d.Patience)
	case link.Sample:
		return h.with(args, func(v *held) (any, error) { return v.sample(ctx) })
	case link.Shortage:
		return h.with(args, func(v *held) (any, error) { return v.short(ctx) })
	case link.Resize:
		z, err := link.Args[link.Sizing](args)
		if err != nil {
			return nil, err
		}
		v, err := h.holding(z.VM)
		if err == nil && v == nil {
			err = errNoVM(z.Name)
		}
		if err != nil {
			return nil, err
		}
		return nil, v.resize(ctx, z.From, z.To)
	case link.Sized:
		return with(args, h.resized)
	case link.Declared:
		return with(args, h.declared)
	case link.Removed:
		return with(args, h.removed)
	case link.Started:
		return with(args, h.started)
	case link.Over:
		return with(args, h.over)
	case link.Changed:
		return with(args, h.recorded)
	}
	return nil, link.Unknown(method)
}

// with does an order by a function of its arguments.
func with[T any](args json.RawMessage, f func(T) (any, error)) (any, error) {
	v, err := link.Args[T](args)
	if err != nil {
		return nil, err
	}
	return f(v)
}

// with does an order about a VM that there is.
func (h *Host) with(args json.RawMessage, f func(*held) (any, error)) (any, error) {
	return with(args, func(id link.VM) (any, error) {
		v, err := h.holding(id)
		switch {
		case err != nil:
			return nil, err
		case v == nil:
			return nil, errNoVM(id.Name)
		}
		return f(v)
	})
}

// holding gives the VM of a start, nil if there is none.
func (h *Host) holding(id link.VM) (*held, error) {
	s, _, err := h.find(id.Name)
	if err != nil {
		return nil, err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if s.vm == nil || s.vm.start != id.Start {
		return nil, nil
	}
	return s.vm, nil
}

func (h *Host) claim(name string) (verify.Claim, error) {
	_, d, err := h.find(name)
	if err != nil {
		return verify.Claim{}, err
	}
	return h.machines.Claim(d)
}

// boot gives the VM of a service's start, which is made unless it was before. There
// is none of a service that nobody has started, and never two.
func (h *Host) boot(ctx context.Context, id link.VM) (link.Booted, error) {
	s, _, err := h.find(id.Name)
	if err != nil {
		return link.Booted{}, err
	}
	h.mu.Lock()
	v := s.vm
	switch {
	case v != nil && v.start == id.Start:
	case id.Only:
		h.mu.Unlock()
		return link.Booted{}, nil
	case s.record == nil || !s.record.Status.State.Active():
		err = fmt.Errorf("%s: %w", id.Name, errNobody)
	case v != nil && !v.over():
		err = fmt.Errorf("%w: %s has a VM", services.ErrState, id.Name)
	default:
		v = h.newHeld(s, id.Start)
		s.vm = v
	}
	h.mu.Unlock()
	if err == nil {
		_, err = v.boot(ctx)
	}
	return link.Booted{There: err == nil}, err
}

// decide notes that a request is decided, after write has put it into the journal.
// The caller holds the lock, which orders what is written.
func (h *Host) decide(d link.Decided, kind string, write func(r *request, s *service) error) error {
	r := h.requests[d.Request]
	if r == nil || r.kind != kind || r.name != d.Name || r.decided {
		return fmt.Errorf("%s %s: %w", kind, d.Name, errNobody)
	}
	s := h.services[d.Name]
	if s == nil && kind != link.Add {
		return fmt.Errorf("%w: %q", services.ErrUnknown, d.Name)
	}
	if err := write(r, s); err != nil {
		return err
	}
	r.decided = true
	return nil
}

func (h *Host) declared(d link.Decided) (any, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return nil, h.decide(d, link.Add, func(r *request, s *service) error {
		if s != nil && (!s.added || s.vm != nil && !s.vm.over()) {
			return fmt.Errorf("%w: %s is not to be declared anew", services.ErrState, d.Name)
		}
		return h.add(r.decl, func(has []netip.Addr) error { return h.write(r.decl, has) })
	})
}

func (h *Host) removed(d link.Decided) (any, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return nil, h.decide(d, link.Remove, func(r *request, s *service) error {
		if !s.added || s.vm != nil && !s.vm.over() {
			return fmt.Errorf("%w: %s is not to be removed", services.ErrState, d.Name)
		}
		if h.journal != nil {
			if err := h.journal.Removed(d.Name); err != nil {
				return err
			}
		}
		h.machines.Leave(d.Name)
		r.status, r.decl = s.status(), s.decl
		delete(h.services, d.Name)
		return nil
	})
}

func (h *Host) started(d link.Decided) (any, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return nil, h.decide(d, link.Start, func(r *request, s *service) error {
		if d.Record == nil || d.Record.Status.Name != d.Name || d.Record.Status.State != services.Starting {
			return errors.New("this is no record of a start")
		}
		if s.vm != nil && !s.vm.over() {
			return fmt.Errorf("%w: %s has a VM", services.ErrState, d.Name)
		}
		if h.journal != nil {
			if err := h.journal.Started(d.Name, r.by); err != nil {
				return err
			}
		}
		d.Record.Status.By = r.by
		s.vm = nil // of a start before
		h.record(s, *d.Record)
		return nil
	})
}

// over takes a service out of the journal that holds nothing any more.
func (h *Host) over(n link.Name) (any, error) {
	if _, _, err := h.find(n.Name); err != nil || h.journal == nil {
		return nil, err
	}
	return nil, h.journal.Ended(n.Name)
}

// recorded notes what a service is from now on.
func (h *Host) recorded(r services.Record) (any, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	s := h.services[r.Status.Name]
	if s == nil {
		return nil, fmt.Errorf("%w: %q", services.ErrUnknown, r.Status.Name)
	}
	h.record(s, r)
	return nil, nil
}

// resized notes what a service is let have from now on.
func (h *Host) resized(r link.Resized) (any, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	s := h.services[r.Record.Status.Name]
	if s == nil {
		return nil, fmt.Errorf("%w: %q", services.ErrUnknown, r.Record.Status.Name)
	}
	if s.record == nil || r.Record.Status.State != s.record.Status.State {
		return nil, fmt.Errorf("%w: %s is in another", services.ErrState, s.decl.Name)
	}
	s.record.Size, s.record.Held = r.Record.Size, r.Record.Held
	ev := Event{Time: time.Now(), Service: s.decl.Name, State: s.record.Status.State, Why: link.Clean(r.Why), By: s.record.Status.By, Sized: &r.By}
	h.events.add(func(seq uint64) Event { ev.Seq = seq; return ev })
	return nil, nil
}

// record keeps a record and makes an event of it. The caller holds the lock.
func (h *Host) record(s *service, r services.Record) {
	r.Status.Why, r.Status.Health, r.Status.By = link.Clean(r.Status.Why), link.Clean(r.Status.Health), link.Clean(r.Status.By)
	s.record = &r
	if !r.Status.State.Active() && s.vm != nil && s.vm.over() {
		s.vm = nil
	}
	ev := Event{Time: r.Status.Since, Service: s.decl.Name, State: r.Status.State, Why: r.Status.Why, By: r.Status.By}
	h.events.add(func(seq uint64) Event { ev.Seq = seq; return ev })
}
