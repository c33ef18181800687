package services

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"warder/supervisor/verify"
)

// ByConnection is who started a service that was started on demand, by somebody of whom no
// more is known.
const ByConnection = "a connection"

const of = " of "

// ByConnectionOf is who started it if that was another service, "" for somebody else.
func ByConnectionOf(service string) string {
	if service == "" {
		return ByConnection
	}
	return ByConnection + of + service
}

// byConnection reports whether a connection has started what by has started.
func byConnection(by string) bool {
	return by == ByConnection || strings.HasPrefix(by, ByConnection+of)
}

// failedPause is how long connections are refused after a start that failed, so that
// those who ask again and again do not have VMs boot as often.
const failedPause = 10 * time.Second

// demand is what connections make of a service that is started by them. It is guarded by
// the set's lock.
type demand struct {
	held   bool   // by one or more of them
	number uint64 // of the request that said so
	idle   *time.Timer
	// turn is had by the connection that waits in the pool, for all of them.
	turn chan struct{}
}

// asOf notes what a request says that has a number, unless a later one has said it.
func (d *demand) asOf(number uint64, held bool) {
	if number > d.number {
		d.number, d.held = number, held
	}
}

// Demand has a service run that is declared to be started on demand, as of now held by
// connections, and gives its state once it runs. Peer is the service whose connection it
// is, see [ByConnectionOf]. Requests that overtake each other are told apart by their
// numbers, which grow. Begun says that a connection has had it begin already: what has
// failed then is not tried again. While others hold what it needs, it waits in the pool, for
// patience at most. The error is a *verify.Refusal when the machine does not have what it
// needs.
func (s *Set) Demand(ctx context.Context, name, peer string, number uint64, begun bool, patience time.Duration) (Status, error) {
	until := time.Now().Add(patience)
	s.mu.Lock()
	e := s.services[name]
	var err error
	switch {
	case e == nil:
		err = unknown(name)
	case e.decl.OnDemand == nil:
		err = fmt.Errorf("%w: %s is not started on demand", ErrState, name)
	default:
		e.demand.asOf(number, true)
		s.maybeIdle(e)
	}
	s.mu.Unlock()
	if err != nil {
		return Status{}, err
	}
	for {
		st, err := s.await(ctx, name, func(st Status) bool {
			return st.State != Starting && st.State != Waiting && st.State != Stopping
		})
		if err != nil {
			return Status{}, err
		}
		s.mu.Lock()
		same := s.services[name] == e
		s.mu.Unlock()
		switch {
		case !same:
			return Status{}, fmt.Errorf("%w: %s was declared anew meanwhile", ErrState, name)
		case st.State == Running:
			return st, nil
		case begun, st.State == Failed && time.Since(st.Since) < failedPause:
			return Status{}, fmt.Errorf("it is %s: %s", st.State, st.Why)
		}
		if err := s.beginForAll(ctx, e, ByConnectionOf(peer), until); err != nil && !errors.Is(err, ErrState) { // another began
			return Status{}, err
		}
		begun = true
	}
}

var errBegun = fmt.Errorf("%w: another has begun it", ErrState)

// beginForAll begins a service for all connections that ask for it. One of them waits in the
// pool until others have given back what it needs, and the rest for that one.
func (s *Set) beginForAll(ctx context.Context, e *service, by string, until time.Time) error {
	came := time.Now()
	s.mu.Lock()
	changed := e.changed
	s.mu.Unlock()
	err := s.begin(ctx, e.decl.Name, by, nil)
	if r, ok := errors.AsType[*verify.Refusal](err); !ok || !r.Others() || !until.After(came) {
		return err
	}
	over := time.NewTimer(time.Until(until))
	defer over.Stop()
	select {
	case e.demand.turn <- struct{}{}:
		defer func() { <-e.demand.turn }()
	case <-changed:
		return errBegun
	case <-over.C:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
	select {
	case <-changed: // by who had the turn before
		return errBegun
	default:
	}
	return s.beginInTurn(ctx, e.decl.Name, by, came, until)
}

// Release says that no connection holds a service any more, as of a request's number.
func (s *Set) Release(name string, number uint64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.services[name]
	if e == nil {
		return unknown(name)
	}
	e.demand.asOf(number, false)
	s.maybeIdle(e)
	return nil
}

// rest stops the time for which nobody has held the service.
func (d *demand) rest() {
	if d.idle != nil {
		d.idle.Stop()
		d.idle = nil
	}
}

// maybeIdle begins the time after which a service is stopped that nobody holds, if a
// connection has started it. The caller holds the lock.
func (s *Set) maybeIdle(e *service) {
	e.demand.rest()
	d, l := e.decl.OnDemand, e.life
	if d == nil || d.Idle == 0 || e.demand.held || l == nil || e.status.State != Running || !byConnection(e.status.By) {
		return
	}
	var timer *time.Timer
	timer = time.AfterFunc(time.Duration(d.Idle), func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if e.demand.idle == timer { // or somebody came at this moment
			l.cancel(&StopOrder{By: fmt.Sprintf("the host: no connection for %v", d.Idle)})
		}
	})
	e.demand.idle = timer
}
