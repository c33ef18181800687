package hosting

import (
	"context"
	"errors"
	"fmt"
	"time"

	"warder/guestinit/control"
	"warder/guestinit/proto"
	"warder/supervisor/declaration"
	"warder/supervisor/link"
	"warder/supervisor/services"
	"warder/supervisor/verify"
)

// request is one that changes what holds from when it is decided on. What changes is
// guarded by the host's lock.
type request struct {
	kind    string // link.Add, link.Remove or link.Start
	name    string
	by      string
	decl    declaration.Service // of an addition, or what was removed
	status  services.Status     // of what was removed
	decided bool
}

// ask has the supervisor answer: the one that there is, or the next one, or the one
// after that if need be.
func (h *Host) ask(ctx context.Context, method string, args, result any) error {
	return h.askUntil(ctx, func() (string, any) { return method, args }, result)
}

// askUntil asks what next says each time that a supervisor is there to be asked,
// until one has answered or next says nothing.
func (h *Host) askUntil(ctx context.Context, next func() (method string, args any), result any) error {
	for {
		c, err := h.wait(ctx)
		if err != nil {
			return err
		}
		method, args := next()
		if method == "" {
			return nil
		}
		if err := c.Call(ctx, method, args, result); !errors.Is(err, link.ErrGone) {
			return err
		}
		h.gone(c)
	}
}

// wait waits until there is a supervisor.
func (h *Host) wait(ctx context.Context) (*link.Conn, error) {
	for {
		h.mu.Lock()
		c, changed, closed := h.supervisor, h.changed, h.closed
		h.mu.Unlock()
		switch {
		case closed:
			return nil, services.ErrClosed
		case c != nil:
			return c, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// begin gives a request its number, by which the supervisor says that it is decided.
func (h *Host) begin(r *request) (number uint64, end func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	number = h.number()
	h.requests[number] = r
	return number, func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		delete(h.requests, number)
	}
}

// number gives the next one. The caller holds the lock.
func (h *Host) number() uint64 {
	h.last++
	return h.last
}

// decidedYet tells whether a request is decided: what is left is to say what came of it.
func (h *Host) decidedYet(r *request) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return r.decided
}

// whole puts back what the supervisor was not told.
func (h *Host) whole(st services.Status) services.Status {
	h.mu.Lock()
	defer h.mu.Unlock()
	if s := h.services[st.Name]; s != nil {
		st.Service = s.decl
	}
	return st
}

// status is what was recorded of a service last. The caller holds the host's lock.
func (s *service) status() services.Status {
	st := services.Status{Name: s.decl.Name, State: services.Stopped}
	if s.record != nil {
		st = s.record.Status
	}
	st.Service = s.decl
	return st
}

// List tells of all services, by name.
func (h *Host) List(ctx context.Context) ([]services.Status, error) {
	all := []services.Status{}
	for p := (link.Page{}); ; {
		var l link.Listing
		if err := h.ask(ctx, link.List, p, &l); err != nil {
			return nil, err
		}
		for _, st := range l.Services {
			if st.Name <= p.After {
				return nil, errors.New("the supervisor gives services out of their order")
			}
			p.After = st.Name
			all = append(all, h.whole(st))
		}
		if !l.More || len(l.Services) == 0 {
			return all, nil
		}
	}
}

// about asks something whose answer is the state of a service.
func (h *Host) about(ctx context.Context, name string, next func() (string, any)) (services.Status, error) {
	if _, _, err := h.find(name); err != nil {
		return services.Status{}, err
	}
	var st services.Status
	if err := h.askUntil(ctx, next, &st); err != nil {
		return services.Status{}, err
	}
	st.Name = name
	return h.whole(st), nil
}

// Status tells of one service.
func (h *Host) Status(ctx context.Context, name string) (services.Status, error) {
	return h.about(ctx, name, func() (string, any) { return link.Show, link.Name{Name: name} })
}

// Wait waits until a service holds nothing any more, and gives its last state.
func (h *Host) Wait(ctx context.Context, name string) (services.Status, error) {
	return h.about(ctx, name, func() (string, any) { return link.Wait, link.Name{Name: name} })
}

// Start starts a service in the name of by, and gives its state once it runs,
// or has failed, or ctx has ended; the service goes on starting then. The error
// is a *verify.Refusal when the machine does not have what it needs.
func (h *Host) Start(ctx context.Context, name, by string) (services.Status, error) {
	return h.StartWhenFree(ctx, name, by, 0)
}

// StartWhenFree starts a service like Start. While the machine does not have what
// the service needs, it waits, for patience at most; then the error is Start's.
func (h *Host) StartWhenFree(ctx context.Context, name, by string, patience time.Duration) (services.Status, error) {
	until := time.Now().Add(patience)
	r := &request{kind: link.Start, name: name, by: by}
	number, end := h.begin(r)
	defer end()
	return h.about(ctx, name, func() (string, any) {
		if h.decidedYet(r) {
			return link.Settle, link.Name{Name: name}
		}
		return link.Start, link.Starting{Name: name, By: by, Request: number, Patience: max(0, time.Until(until))}
	})
}

// Resume starts a service again that ran under a host before this one. Why it
// cannot be is its state then.
func (h *Host) Resume(ctx context.Context, name, by string) error {
	r := &request{kind: link.Start, name: name, by: by}
	number, end := h.begin(r)
	defer end()
	if _, _, err := h.find(name); err != nil {
		if h.journal != nil {
			err = errors.Join(err, h.journal.Ended(name))
		}
		return err
	}
	return h.askUntil(ctx, func() (string, any) {
		if h.decidedYet(r) {
			return "", nil
		}
		return link.Resume, link.Starting{Name: name, By: by, Request: number}
	}, nil)
}

// Stop stops a service, which gets timeout to end, its declared one when that is
// 0, and waits until it has. One that does not run is stopped already.
func (h *Host) Stop(ctx context.Context, name string, timeout time.Duration, by string) (services.Status, error) {
	return h.about(ctx, name, func() (string, any) {
		return link.Stop, link.Stopping{Name: name, By: by, Timeout: timeout}
	})
}

// End stops the service whose VM vm is and does not wait for it: who asks is in that VM.
// The error says that the service has another one meanwhile, or none.
func (h *Host) End(ctx context.Context, name string, vm VM, by string) (services.Status, error) {
	s, _, err := h.find(name)
	if err != nil {
		return services.Status{}, err
	}
	h.mu.Lock()
	v, r := s.vm, s.record
	var f link.Finish
	if v != nil && r != nil {
		f = link.Finish{VM: link.VM{Name: name, Start: v.start}, Began: r.Began, By: by}
	}
	h.mu.Unlock()
	if v == nil || r == nil || v.over() || r.Status.Starts != v.start {
		return services.Status{}, errNoVM(name)
	}
	if has, err := v.up(); err != nil || has != vm {
		return services.Status{}, fmt.Errorf("%w: this is not the VM that %s has now", services.ErrState, name)
	}
	return h.about(ctx, name, func() (string, any) { return link.End, f })
}

// Add makes a service known that a request declares. One that was added before and
// is not active is declared anew.
func (h *Host) Add(ctx context.Context, d declaration.Service) (services.Status, error) {
	if err := h.check(d); err != nil {
		return services.Status{}, err
	}
	r := &request{kind: link.Add, name: d.Name, decl: d}
	number, end := h.begin(r)
	defer end()
	var st services.Status
	err := h.askUntil(ctx, func() (string, any) {
		if h.decidedYet(r) {
			return link.Show, link.Name{Name: d.Name}
		}
		return link.Add, link.Addition{Service: link.Abridged(d), Request: number}
	}, &st)
	st.Name = d.Name
	return h.whole(st), err
}

// Remove forgets a service that was added and is not active, and gives its last state.
func (h *Host) Remove(ctx context.Context, name string) (services.Status, error) {
	r := &request{kind: link.Remove, name: name}
	number, end := h.begin(r)
	defer end()
	_, err := h.about(ctx, name, func() (string, any) {
		if h.decidedYet(r) {
			return "", nil
		}
		return link.Remove, link.Removal{Name: name, Request: number}
	})
	h.mu.Lock()
	defer h.mu.Unlock()
	return r.status, err
}

// Grant commits a claim to a VM that is no service. The error is a *verify.Refusal
// where the machine does not have it.
func (h *Host) Grant(ctx context.Context, holder string, c verify.Claim) error {
	err := h.ask(ctx, link.Grant, verify.Grant{Holder: holder, Claim: c}, nil)
	if err == nil {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.granted[holder] = c
	}
	return err
}

// Return takes back all that such a VM has.
func (h *Host) Return(ctx context.Context, holder string) error {
	h.mu.Lock()
	delete(h.granted, holder)
	h.mu.Unlock()
	return h.ask(ctx, link.Return, link.Name{Name: holder}, nil)
}

// Balance is what the services and others hold of the machine.
func (h *Host) Balance(ctx context.Context) (b verify.Balance, err error) {
	return b, h.ask(ctx, link.Resources, nil, &b)
}

// Permit says whether somebody may do something with a service, "" for the host. The
// error is a *verify.Denial if not.
func (h *Host) Permit(ctx context.Context, who verify.Principal, action, name string) error {
	a := link.Asked{Principal: who, Action: action, Name: name}
	if who.Service != nil {
		a.Inside = who.Service.Name
	}
	return h.ask(ctx, link.Permit, a, nil)
}

// Exec starts a further command in the VM of a service that runs, with the
// service's environment below its own.
func (h *Host) Exec(ctx context.Context, name string, cmd proto.Command, stdio control.Stdio) (Process, error) {
	vm, d, err := h.vmOf(name)
	if err != nil {
		return nil, err
	}
	cmd.Env = append(Command(d).Env, cmd.Env...)
	return vm.Start(ctx, cmd, stdio)
}

// Console is the last that the kernel of a service's guest said, also when nothing
// else in it answers. It is as it came: a guest can say anything.
func (h *Host) Console(name string) ([]byte, error) {
	vm, _, err := h.vmOf(name)
	if err != nil {
		return nil, err
	}
	return vm.Serial(), nil
}

// vmOf gives the VM of a service, if it has one now.
func (h *Host) vmOf(name string) (VM, declaration.Service, error) {
	s, d, err := h.find(name)
	if err != nil {
		return nil, d, err
	}
	h.mu.Lock()
	v := s.vm
	h.mu.Unlock()
	if v == nil || v.over() {
		return nil, d, errNoVM(name)
	}
	vm, err := v.up()
	return vm, d, err
}
