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
	"slices"
	"strings"
	"sync"
	"time"

	"warder/guestinit/proto"
	"warder/supervisor/declaration"
	"warder/supervisor/sizing"
	"warder/supervisor/verify"
)

// A Host does what a set orders with the VMs of services. What it is ordered twice it
// does once: a set that takes the place of another one finds its VMs where they are.
type Host interface {
	// Claim says what a service needs of the machine, or why it could not start
	// here: a file that is not there, an option that makes no sense.
	Claim(ctx context.Context, name string) (verify.Claim, error)
	// Boot brings the VM of a service's nth start up to where nothing of it has run,
	// or gives the one that is there already. When only that one is wanted, and there
	// is none, it gives nil.
	Boot(ctx context.Context, name string, start int, only bool) (VM, error)
}

// A VM is the machine of a service.
type VM interface {
	// Run starts the service's command, if it has not been started.
	Run(context.Context) (Process, error)
	// Check runs the service's health check once, and gives the beginning of what
	// that says.
	Check(context.Context) (status proto.Status, said string, err error)
	// Stop ends the VM: its processes get grace. Nothing of it is left when Stop
	// returns, whatever the error.
	Stop(ctx context.Context, grace time.Duration) error
	Done() <-chan struct{}
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
	// Wait waits for the end.
	Wait(context.Context) (proto.Status, error)
}

// The errors of a request.
var (
	ErrUnknown = errors.New("no such service")
	ErrState   = errors.New("not in this state") // of the service
	ErrClosed  = errors.New("the host is stopping")
)

// A Journal remembers what was asked for, and what became of it, for a host or a set
// that died. The contexts of its first three are those of the requests, which are
// decided when they return without an error.
type Journal interface {
	Declared(ctx context.Context, name string) error
	Removed(ctx context.Context, name string) error
	Started(context.Context, Record) error
	Ended(name string) error
	// Changed is told what a service is from now on, before it is, Sized that it is
	// let have another size.
	Changed(Record)
	Sized(r Record, by Sized, why string)
}

// A Set is the services of a host. It is safe for concurrent use.
type Set struct {
	host    Host
	ledger  *verify.Ledger
	journal Journal
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

	status  Status
	life    *life
	changed chan struct{} // closed at each change of state
	demand  demand
}

// New makes a set without services.
func New(host Host, ledger *verify.Ledger, journal Journal) *Set {
	return &Set{host: host, ledger: ledger, journal: journal, services: make(map[string]*service)}
}

// maxServices bounds the declarations.
const maxServices = 1024

// Add makes a service known that a request declares. One that was added before and
// is not active is declared anew.
func (s *Set) Add(ctx context.Context, d declaration.Service) error {
	if err := d.Check(); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	old := s.services[d.Name]
	switch {
	case s.closed:
		return ErrClosed
	case old != nil && !old.added:
		return fmt.Errorf("%w: %s is declared by the host's configuration", ErrState, d.Name)
	case old != nil && old.status.State.Active():
		return fmt.Errorf("%w: %s is %s: stop it first", ErrState, d.Name, old.status.State)
	case old == nil && len(s.services) >= maxServices:
		return fmt.Errorf("%w: there are %d services already", ErrState, maxServices)
	}
	if err := s.journal.Declared(ctx, d.Name); err != nil {
		return fmt.Errorf("%s is not declared: %w", d.Name, err)
	}
	if old != nil {
		close(old.changed) // whoever waits finds the new one
	}
	s.put(d, true)
	return nil
}

// Declare makes a service known that the host's own configuration declares, or that
// was added to a set or a host before this one.
func (s *Set) Declare(d declaration.Service, added bool) error {
	if err := d.Check(); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.services[d.Name] != nil:
		return fmt.Errorf("%w: %s is declared already", ErrState, d.Name)
	case len(s.services) >= maxServices:
		return fmt.Errorf("%w: there are %d services already", ErrState, maxServices)
	}
	s.put(d, added)
	return nil
}

// put makes a service known. The caller holds the lock.
func (s *Set) put(d declaration.Service, added bool) *service {
	d = d.WithDefaults()
	e := &service{decl: d, added: added, changed: make(chan struct{})}
	e.demand.turn = make(chan struct{}, 1)
	e.status = Status{Name: d.Name, State: Stopped, Since: time.Now(), Service: d}
	s.services[d.Name] = e
	return e
}

// Remove forgets a service that was added and is not active, and gives its last state.
func (s *Set) Remove(ctx context.Context, name string) (Status, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.services[name]
	switch {
	case e == nil:
		return Status{}, unknown(name)
	case e.status.State.Active():
		return Status{}, fmt.Errorf("%w: %s is %s: stop it first", ErrState, name, e.status.State)
	case !e.added:
		return Status{}, fmt.Errorf("%w: %s is declared by the host's configuration: take it out there", ErrState, name)
	}
	if err := s.journal.Removed(ctx, name); err != nil {
		return Status{}, fmt.Errorf("%s could not be taken out of the journal: %w", name, err)
	}
	close(e.changed)
	delete(s.services, name)
	return e.status, nil
}

func (s *Set) find(name string) (*service, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if e := s.services[name]; e != nil {
		return e, nil
	}
	return nil, unknown(name)
}

func unknown(name string) error { return fmt.Errorf("%w: %q", ErrUnknown, name) }

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

// Settle waits until a service is not starting any more, and gives its state.
func (s *Set) Settle(ctx context.Context, name string) (Status, error) {
	return s.await(ctx, name, func(st Status) bool { return st.State != Starting })
}

// Resume starts a service again that ran under a host before this one. Why it
// cannot be is its state then.
func (s *Set) Resume(ctx context.Context, name, by string) error {
	err := s.begin(ctx, name, by, nil)
	if err == nil {
		return nil
	}
	err = errors.Join(err, s.journal.Ended(name))
	s.mu.Lock()
	defer s.mu.Unlock()
	if e := s.services[name]; e != nil && !e.status.State.Active() {
		s.to(e, Failed, "it could not be started again: "+err.Error())
	}
	return err
}

// begin commits the resources of a service and begins its life, unless it is
// another's turn: turn is the request's own place in the pool, nil when it has none.
func (s *Set) begin(ctx context.Context, name, by string, turn *place) error {
	e, err := s.find(name)
	if err != nil {
		return err
	}
	claim, err := s.host.Claim(ctx, name) // which looks at files
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
	case e.status.State.Active():
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
	l := s.live(e)
	l.claim, l.began, l.delay = claim, time.Now(), time.Duration(e.decl.Restart.Delay)
	next := e.status
	next.State, next.Since, next.Why, next.Health = Starting, l.began, "", ""
	next.Starts, next.By, next.Exit = 1, by, nil
	if err := s.journal.Started(ctx, e.record(next)); err != nil {
		e.life = nil
		s.ledger.Return(name)
		return fmt.Errorf("%s could not be put into the journal: %w", name, err)
	}
	e.become(next)
	s.lives.Go(l.run)
	return nil
}

// live makes the life of a service. The caller holds the lock.
func (s *Set) live(e *service) *life {
	ctx, cancel := context.WithCancelCause(context.Background())
	e.life = &life{set: s, service: e, decl: e.decl, ctx: ctx, cancel: cancel, done: make(chan struct{})}
	return e.life
}

// to changes a service's state, unless that is what it was. The caller holds the lock.
func (s *Set) to(e *service, state State, why string) {
	next := e.status
	if next.State == state && next.Why == why {
		return // as a set before this one has left it
	}
	next.State, next.Since, next.Why = state, time.Now(), why
	if state != Running {
		next.Health = ""
	}
	s.journal.Changed(e.record(next))
	e.become(next)
	s.maybeIdle(e)
}

// become gives a service its status. The caller holds the set's lock.
func (e *service) become(status Status) {
	e.status = status
	close(e.changed)
	e.changed = make(chan struct{})
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
	return s.await(ctx, name, func(st Status) bool { return !st.State.Active() })
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
		e.life.cancel(&StopOrder{By: by, Timeout: timeout})
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

// End stops the service whose VM is that of its nth start, at began, and does not wait
// for it: who asks is in that VM. The error says that the service has another one
// meanwhile, or none.
func (s *Set) End(name string, start int, began time.Time, by string) (Status, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.services[name]
	switch {
	case e == nil:
		return Status{}, unknown(name)
	case e.life == nil || e.status.Starts != start || !e.life.began.Equal(began):
		return Status{}, fmt.Errorf("%w: this is not the VM that %s has now", ErrState, name)
	}
	e.life.cancel(&StopOrder{By: by})
	return e.status, nil
}

// Close stops all services, each within its own time, and starts none any more.
// What the journal says of them stays: a host that comes back starts them again.
func (s *Set) Close() {
	s.mu.Lock()
	s.closed = true
	for _, e := range s.services {
		if e.life != nil {
			e.life.cancel(&StopOrder{By: "the host", Closing: true})
		}
	}
	s.mu.Unlock()
	s.lives.Wait()
}
