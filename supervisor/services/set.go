// Package services keeps declared services in the state that was asked for.
//
// Each service that was started has one goroutine for its life: it starts a VM,
// runs the command, looks after its health, starts it again as its policy says,
// and gives back all that it held when it is over. A [Set] is a number of them
// that share one machine's resources.
package services

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"time"

	"warder/guestinit/control"
	"warder/guestinit/proto"
	"warder/supervisor/declaration"
	"warder/supervisor/sizing"
	"warder/supervisor/verify"
)

// A Host makes the VMs of services.
type Host interface {
	// Claim says what a service needs of the machine, or why it could not start
	// here: a file that is not there, an option that makes no sense.
	Claim(declaration.Service) (verify.Claim, error)
	// Boot brings the VM of a service up to where nothing of it has run.
	Boot(context.Context, declaration.Service) (VM, error)
}

// A VM is the machine of a service.
type VM interface {
	Start(context.Context, proto.Command, control.Stdio) (Process, error)
	// Stop ends the VM: its processes get grace. Nothing of it is left when Stop
	// returns, whatever the error.
	Stop(ctx context.Context, grace time.Duration) error
	Done() <-chan struct{}
	// Use is what it has used. The guest is asked until ctx ends.
	Use(context.Context) Use
	// Serial is the last that the guest's kernel said, as it came.
	Serial() []byte
	// Ended says what became of a VM that is done, nil when it switched off.
	Ended() error

	// Sample tells how the guest fares, but for what it is let have.
	Sample(context.Context) (sizing.Sample, error)
	// Shortages has what the guest says that it is short of, as soon as it is.
	Shortages() <-chan proto.Shortage
	// Resize lets the VM have another size than it was let have. It asks: a sample
	// tells how far the guest has come.
	Resize(ctx context.Context, from, to sizing.Size) error
}

// A Process is a command in a VM.
type Process interface {
	// Wait waits for the end, and kills the command when ctx ends first.
	Wait(context.Context) (proto.Status, error)
	Signal(ctx context.Context, signal int) error
	Resize(ctx context.Context, cols, rows uint16) error
}

// The errors of a request.
var (
	ErrUnknown = errors.New("no such service")
	ErrState   = errors.New("not in this state") // of the service
	ErrClosed  = errors.New("the host is stopping")
)

// A Journal remembers what was asked for, for a host that died.
type Journal interface {
	Declared(declaration.Service) error // by a request
	Removed(name string) error
	Started(name, by string) error
	Ended(name string) error
}

// A Set is the services of a host. It is safe for concurrent use.
type Set struct {
	host    Host
	ledger  *verify.Ledger
	journal Journal // nil for none
	events  *tape[Event]
	pool    pool

	mu       sync.Mutex
	services map[string]*service
	closed   bool
	lives    sync.WaitGroup
}

// service is one of them. What changes is guarded by the set's lock.
type service struct {
	decl  declaration.Service
	added bool // by a request, not by the host's own configuration
	log   *tape[Line]

	status  Status
	life    *life
	changed chan struct{} // closed at each change of state
	demand  demand
}

// New makes a set without services; journal may be nil.
func New(host Host, ledger *verify.Ledger, journal Journal) *Set {
	return &Set{host: host, ledger: ledger, journal: journal, events: newEvents(), services: make(map[string]*service)}
}

// maxServices bounds the declarations.
const maxServices = 1024

// Declare makes a service of the host's own configuration known.
func (s *Set) Declare(d declaration.Service) error { return s.declare(d, false, nil) }

// Add makes a service known that a request declares. One that was added before and
// is not active is declared anew.
func (s *Set) Add(d declaration.Service) error { return s.declare(d, true, s.journal) }

// Restore makes a service known that was added to a host before this one.
func (s *Set) Restore(d declaration.Service) error { return s.declare(d, true, nil) }

func (s *Set) declare(d declaration.Service, added bool, journal Journal) error {
	if err := d.Check(); err != nil {
		return err
	}
	if _, err := s.host.Claim(d); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	old := s.services[d.Name]
	switch {
	case s.closed:
		return ErrClosed
	case old != nil && (!old.added || !added):
		return fmt.Errorf("%w: %s is declared by the host's configuration", ErrState, d.Name)
	case old != nil && old.status.State.active():
		return fmt.Errorf("%w: %s is %s: stop it first", ErrState, d.Name, old.status.State)
	case old == nil && len(s.services) >= maxServices:
		return fmt.Errorf("%w: there are %d services already", ErrState, maxServices)
	}
	if journal != nil {
		if err := journal.Declared(d); err != nil {
			return fmt.Errorf("%s could not be put into the journal: %w", d.Name, err)
		}
	}
	d = d.WithDefaults()
	e := &service{decl: d, added: added, log: newLog(), changed: make(chan struct{})}
	if old != nil {
		e.log = old.log
		close(old.changed) // whoever waits finds the new one
	}
	e.status = Status{Name: d.Name, State: Stopped, Since: time.Now(), Service: d}
	s.services[d.Name] = e
	return nil
}

// Remove forgets a service that was added and is not active.
func (s *Set) Remove(name string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.services[name]
	switch {
	case e == nil:
		return unknown(name)
	case e.status.State.active():
		return fmt.Errorf("%w: %s is %s: stop it first", ErrState, name, e.status.State)
	case !e.added:
		return fmt.Errorf("%w: %s is declared by the host's configuration: take it out there", ErrState, name)
	}
	if s.journal != nil {
		if err := s.journal.Removed(name); err != nil {
			return fmt.Errorf("%s could not be taken out of the journal: %w", name, err)
		}
	}
	close(e.changed)
	delete(s.services, name)
	return nil
}

func unknown(name string) error { return fmt.Errorf("%w: %q", ErrUnknown, name) }

func (s *Set) find(name string) (*service, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if e := s.services[name]; e != nil {
		return e, nil
	}
	return nil, unknown(name)
}

// List tells of all services, by name.
func (s *Set) List() []Status {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := make([]Status, 0, len(s.services))
	for _, e := range s.services {
		all = append(all, e.status)
	}
	slices.SortFunc(all, func(a, b Status) int { return strings.Compare(a.Name, b.Name) })
	return all
}

// Status tells of one service.
func (s *Set) Status(name string) (Status, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if e := s.services[name]; e != nil {
		return e.status, nil
	}
	return Status{}, unknown(name)
}

// Balance is what the services and others hold of the machine, and who waits for it.
func (s *Set) Balance() verify.Balance {
	b := s.ledger.Balance()
	b.Waiting = s.pool.list()
	return b
}

// Start starts a service in the name of by, and gives its state once it runs,
// or has failed, or ctx has ended; the service goes on starting then. The error
// is a *verify.Refusal when the machine does not have what it needs.
func (s *Set) Start(ctx context.Context, name, by string) (Status, error) {
	return s.StartWhenFree(ctx, name, by, 0)
}

// Resume starts a service again that ran under a host before this one. Why it
// cannot be is its state then.
func (s *Set) Resume(name, by string) error {
	err := s.begin(name, by, nil)
	if err == nil {
		return nil
	}
	if s.journal != nil {
		err = errors.Join(err, s.journal.Ended(name))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if e := s.services[name]; e != nil && !e.status.State.active() {
		s.to(e, Failed, "it could not be started again: "+err.Error())
	}
	return err
}

// begin commits the resources of a service and begins its life, unless it is
// another's turn: turn is the request's own place in the pool, nil when it has none.
func (s *Set) begin(name, by string, turn *place) error {
	e, err := s.find(name)
	if err != nil {
		return err
	}
	claim, err := s.host.Claim(e.decl) // which looks at files
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.closed:
		return ErrClosed
	case s.services[name] != e:
		return fmt.Errorf("%w: %s was declared anew meanwhile", ErrState, name)
	case e.status.State.active():
		return fmt.Errorf("%w: %s is %s already", ErrState, name, e.status.State)
	}
	if turn == nil {
		if other := s.pool.ahead(e.decl.Priority); other != "" {
			return &verify.Refusal{Resource: verify.Turn, Holder: other}
		}
	} else if !s.pool.first(turn) {
		return &verify.Refusal{Resource: verify.Turn, Holder: "others"}
	}
	if err := s.ledger.Grant(name, claim); err != nil {
		return err
	}
	if s.journal != nil {
		if err := s.journal.Started(name, by); err != nil {
			s.ledger.Return(name)
			return fmt.Errorf("%s could not be put into the journal: %w", name, err)
		}
	}
	ctx, cancel := context.WithCancelCause(context.Background())
	e.life = &life{set: s, service: e, decl: e.decl, claim: claim, ctx: ctx, cancel: cancel, done: make(chan struct{})}
	e.status.Starts, e.status.By, e.status.Exit = 0, by, nil
	s.to(e, Starting, "")
	s.lives.Go(e.life.run)
	return nil
}

// to changes a service's state. The caller holds the lock.
func (s *Set) to(e *service, state State, why string) {
	e.status.State, e.status.Since, e.status.Why = state, time.Now(), why
	if state != Running {
		e.status.Health = ""
	}
	close(e.changed)
	e.changed = make(chan struct{})
	s.maybeIdle(e)
	ev := Event{Time: e.status.Since, Service: e.status.Name, State: state, Why: why, By: e.status.By}
	s.events.add(func(seq uint64) Event { ev.Seq = seq; return ev })
}

// await waits for a service to be in a state, or for ctx to end, and gives the
// state that it is in.
func (s *Set) await(ctx context.Context, name string, in func(Status) bool) (Status, error) {
	for {
		s.mu.Lock()
		e := s.services[name]
		if e == nil {
			s.mu.Unlock()
			return Status{}, unknown(name)
		}
		status, changed := e.status, e.changed
		s.mu.Unlock()
		if in(status) {
			return status, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return status, ctx.Err()
		}
	}
}

// Wait waits until a service holds nothing any more, and gives its last state.
func (s *Set) Wait(ctx context.Context, name string) (Status, error) {
	return s.await(ctx, name, func(st Status) bool { return !st.State.active() })
}

// Stop stops a service, which gets timeout to end, its declared one when that is
// 0, and waits until it has. One that does not run is stopped already.
func (s *Set) Stop(ctx context.Context, name string, timeout time.Duration, by string) (Status, error) {
	s.mu.Lock()
	e := s.services[name]
	if e == nil {
		s.mu.Unlock()
		return Status{}, unknown(name)
	}
	var done <-chan struct{}
	if e.life != nil {
		e.life.cancel(&stopOrder{by: by, timeout: timeout})
		done = e.life.done
	}
	s.mu.Unlock()
	if done != nil {
		select {
		case <-done:
		case <-ctx.Done():
			return Status{}, ctx.Err()
		}
	}
	return s.Status(name)
}

// End stops the service whose VM vm is and does not wait for it: who asks is in that VM.
// The error says that the service has another one meanwhile, or none.
func (s *Set) End(name string, vm VM, by string) (Status, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.services[name]
	switch {
	case e == nil:
		return Status{}, unknown(name)
	case e.life == nil || e.life.vm != vm:
		return Status{}, fmt.Errorf("%w: this is not the VM that %s has now", ErrState, name)
	}
	e.life.cancel(&stopOrder{by: by})
	return e.status, nil
}

// vmOf gives the VM of a service, if it has one now.
func (s *Set) vmOf(name string) (VM, declaration.Service, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.services[name]
	switch {
	case e == nil:
		return nil, declaration.Service{}, unknown(name)
	case e.life == nil || e.life.vm == nil:
		return nil, e.decl, fmt.Errorf("%w: %s has no VM now", ErrState, name)
	}
	return e.life.vm, e.decl, nil
}

// Exec starts a further command in the VM of a service that runs, with the
// service's environment below its own.
func (s *Set) Exec(ctx context.Context, name string, cmd proto.Command, stdio control.Stdio) (Process, error) {
	vm, d, err := s.vmOf(name)
	if err != nil {
		return nil, err
	}
	cmd.Env = append(Command(d).Env, cmd.Env...)
	return vm.Start(ctx, cmd, stdio)
}

// Console is the last that the kernel of a service's guest said, also when nothing
// else in it answers. It is as it came: a guest can say anything.
func (s *Set) Console(name string) ([]byte, error) {
	vm, _, err := s.vmOf(name)
	if err != nil {
		return nil, err
	}
	return vm.Serial(), nil
}

// Close stops all services, each within its own time, and starts none any more.
// What the journal says of them stays: a host that comes back starts them again.
func (s *Set) Close() {
	s.mu.Lock()
	s.closed = true
	for _, e := range s.services {
		if e.life != nil {
			e.life.cancel(&stopOrder{by: "the host", closing: true})
		}
	}
	s.mu.Unlock()
	s.lives.Wait()
}

// stdio is what the streams of a service's command are tied to.
func (e *service) stdio(t *ties) (control.Stdio, func()) {
	out, err := &splitter{log: e.log, stream: "stdout"}, &splitter{log: e.log, stream: "stderr"}
	stdio := control.Stdio{Out: io.MultiWriter(t.writer("stdout"), out), Err: io.MultiWriter(t.writer("stderr"), err)}
	if e.decl.Stdin || e.decl.TTY {
		stdio.In = &t.input
	}
	return stdio, func() { out.flush(); err.flush() }
}
