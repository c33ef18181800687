package services

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"warder/supervisor/verify"
)

// A pool is those who wait for what others hold, in the order in which they get it:
// the greater priority first; of the same, who wants to start before who wants to
// grow, which is without a bound; then who has waited longer.
type pool struct {
	mu      sync.Mutex
	waiting []*place // in order
}

// A place is that of one who waits.
type place struct {
	verify.Waiting
	turn chan struct{} // has a value when it may be its turn
}

// before tells whether w gets something before o does.
func (w *place) before(o *place) bool {
	switch {
	case w.Priority != o.Priority:
		return w.Priority > o.Priority
	case w.For != o.For:
		return w.For == verify.ToStart
	}
	return w.Since.Before(o.Since)
}

// wait has somebody wait who came at a time, until leave is called.
func (p *pool) wait(service string, priority int, what string, came time.Time) *place {
	w := &place{Waiting: verify.Waiting{Service: service, Priority: priority, For: what, Since: came}, turn: make(chan struct{}, 1)}
	p.mu.Lock()
	defer p.mu.Unlock()
	at := len(p.waiting)
	for at > 0 && w.before(p.waiting[at-1]) {
		at--
	}
	p.waiting = slices.Insert(p.waiting, at, w)
	return w
}

// leave ends a wait. It may be the next one's turn then.
func (p *pool) leave(w *place) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if i := slices.Index(p.waiting, w); i >= 0 {
		p.waiting = slices.Delete(p.waiting, i, i+1)
	}
	p.call()
}

// freed says that there may be more than there was.
func (p *pool) freed() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.call()
}

// call tells the first that it may be its turn. The caller holds the lock.
func (p *pool) call() {
	if len(p.waiting) == 0 {
		return
	}
	select {
	case p.waiting[0].turn <- struct{}{}:
	default:
	}
}

// ahead is the service that gets something before one of that priority which wants
// to start now, "" when it need not wait.
func (p *pool) ahead(priority int) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.waiting) > 0 && p.waiting[0].Priority > priority {
		return p.waiting[0].Service
	}
	return ""
}

// first tells whether nobody comes before w, who need not be waiting yet.
func (p *pool) first(w *place) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.waiting) == 0 || p.waiting[0] == w || w.before(p.waiting[0])
}

// wanted tells whether anybody but a service itself waits.
func (p *pool) wanted(service string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.ContainsFunc(p.waiting, func(w *place) bool { return w.Service != service })
}

// list is who waits, in order.
func (p *pool) list() []verify.Waiting {
	p.mu.Lock()
	defer p.mu.Unlock()
	var all []verify.Waiting
	for _, w := range p.waiting {
		all = append(all, w.Waiting)
	}
	return all
}

// retry is how often one who waits for its turn looks by itself: memory of the
// machine becomes free without anybody here knowing.
const retry = time.Second

// StartWhenFree starts a service like Start. While the machine does not have what
// the service needs, it waits, for patience at most; then the error is Start's.
func (s *Set) StartWhenFree(ctx context.Context, name, by string, patience time.Duration) (Status, error) {
	came := time.Now()
	err := s.begin(ctx, name, by, nil)
	if err != nil && passes(err) && patience > 0 {
		err = s.beginInTurn(ctx, name, by, came, came.Add(patience))
	}
	if err != nil {
		return Status{}, err
	}
	return s.Settle(ctx, name)
}

// beginInTurn waits in the pool for what a service needs, in the place of one who came then.
func (s *Set) beginInTurn(ctx context.Context, name, by string, came, until time.Time) error {
	e, err := s.find(name)
	if err != nil {
		return err
	}
	w := s.pool.wait(name, e.decl.Priority, verify.ToStart, came)
	defer s.pool.leave(w)
	over := time.After(time.Until(until))
	for {
		err := s.begin(ctx, name, by, w)
		if err == nil || !passes(err) {
			return err
		}
		select {
		case <-w.turn:
		case <-time.After(retry):
		case <-over:
			return err
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// passes tells whether an error is of something that others will give back some
// time. A disk that another service has is none: it may have it for ever, and who
// waits for it would hold up all who wait behind it.
func passes(err error) bool {
	r, ok := errors.AsType[*verify.Refusal](err)
	return ok && r.Amount()
}
