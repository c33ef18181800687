package services

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// byConnection is who started a service that was started on demand.
const byConnection = "a connection"

const (
	// maxHeld is how many connections may wait for one service at a time.
	maxHeld = 64
	// failedPause is how long connections are refused after a start that failed, so that
	// those who ask again and again do not have VMs boot as often.
	failedPause = 10 * time.Second
)

// demand is what connections make of a service that is started by them. It is guarded by
// the set's lock.
type demand struct {
	users   int // connections that hold it
	waiting int // of them, those that wait for it to run
	idle    *time.Timer
}

// Hold has a service that is declared to be started on demand run, and keeps it from
// being idle until release is called. It waits until the service runs, as long as that
// is declared to be waited for; alive ends with its VM. The error is a *verify.Refusal
// when the machine does not have what it needs.
func (s *Set) Hold(ctx context.Context, name string) (alive context.Context, release func(), err error) {
	s.mu.Lock()
	e := s.services[name]
	switch {
	case e == nil:
		err = unknown(name)
	case e.decl.OnDemand == nil:
		err = fmt.Errorf("%w: %s is not started on demand", ErrState, name)
	case e.demand.waiting >= maxHeld:
		err = fmt.Errorf("%w: %d connections wait for %s already", ErrState, maxHeld, name)
	}
	if err != nil {
		s.mu.Unlock()
		return nil, nil, err
	}
	e.demand.users++
	e.demand.waiting++
	e.demand.rest()
	s.mu.Unlock()
	release = sync.OnceFunc(func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		e.demand.users--
		s.maybeIdle(e)
	})
	ctx, cancel := context.WithTimeout(ctx, time.Duration(e.decl.OnDemand.Wait))
	defer cancel()
	alive, err = s.bringUp(ctx, e)
	s.mu.Lock()
	e.demand.waiting--
	s.mu.Unlock()
	if err != nil {
		release()
		return nil, nil, fmt.Errorf("%s, on demand: %w", name, err)
	}
	return alive, release, nil
}

// bringUp starts a service, once, unless it runs or comes up by itself.
func (s *Set) bringUp(ctx context.Context, e *service) (context.Context, error) {
	for begun := false; ; {
		st, err := s.await(ctx, e.decl.Name, func(st Status) bool {
			return st.State != Starting && st.State != Waiting && st.State != Stopping
		})
		if errors.Is(err, context.DeadlineExceeded) {
			return nil, fmt.Errorf("it is %s, and does not run after %v: %w", st.State, e.decl.OnDemand.Wait, err)
		}
		if err != nil {
			return nil, err
		}
		s.mu.Lock()
		same := s.services[e.decl.Name] == e
		var alive context.Context
		if same && e.status.State == Running && e.life != nil {
			alive = e.life.alive
		}
		s.mu.Unlock()
		switch {
		case alive != nil:
			return alive, nil
		case !same:
			return nil, fmt.Errorf("%w: it was declared anew meanwhile", ErrState)
		case st.State == Running: // and has just come to its end
			continue
		case begun, st.State == Failed && time.Since(st.Since) < failedPause:
			return nil, fmt.Errorf("it is %s: %s", st.State, st.Why)
		}
		if err := s.begin(e.decl.Name, byConnection, nil); err != nil && !errors.Is(err, ErrState) { // another began
			return nil, err
		}
		begun = true
	}
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
	if d == nil || d.Idle == 0 || e.demand.users > 0 || l == nil || e.status.State != Running || e.status.By != byConnection {
		return
	}
	var timer *time.Timer
	timer = time.AfterFunc(time.Duration(d.Idle), func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if e.demand.idle == timer { // or somebody came at this moment
			l.cancel(&stopOrder{by: fmt.Sprintf("the host: no connection for %v", d.Idle)})
		}
	})
	e.demand.idle = timer
}
