package services

import (
	"context"
	"fmt"
	"time"

	"warder/supervisor/declaration"
	"warder/supervisor/sizing"
	"warder/supervisor/verify"
)

// A Record is what a service is, for a set that takes the place of this one: it says
// where in its life it is. The declaration is not in its status.
type Record struct {
	Status Status `json:"status"`
	// What follows is of a service that is active.
	Claim verify.Claim  `json:"claim,omitzero"`
	Row   int           `json:"row,omitempty"` // new starts without a steady run
	Delay time.Duration `json:"delay_ns,omitempty"`
	Began time.Time     `json:"began,omitzero"`
	Until time.Time     `json:"until,omitzero"` // of one that waits
	// Size is what it is let have, Held what the books have for that; zero for Claim.
	Size sizing.Size `json:"size,omitzero"`
	Held sizing.Size `json:"held,omitzero"`
	Stop *StopOrder  `json:"stop,omitempty"`
}

// record is a service with a status. The caller holds the set's lock.
func (e *service) record(status Status) Record {
	status.Service = declaration.Service{}
	r := Record{Status: status}
	if l := e.life; l != nil && status.State.Active() {
		r.Claim, r.Row, r.Delay, r.Began, r.Until = l.claim, l.row, l.delay, l.began, l.until
		r.Size, r.Held = l.size, l.held
		r.Stop, _ = context.Cause(l.ctx).(*StopOrder)
	}
	return r
}

// Adopt makes a service known as a set before this one has left it. One that is
// active holds what it held there and lives on. Connections hold it as of a request's
// number, 0 for none (see [Set.Demand]).
func (s *Set) Adopt(d declaration.Service, added bool, r Record, held uint64) error {
	if err := s.Declare(d, added); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.services[d.Name]
	e.demand.asOf(held, held > 0)
	r.Status.Name, r.Status.Service = d.Name, e.decl
	e.status = r.Status
	if !r.Status.State.Active() {
		return nil
	}
	if r.Status.Starts < 1 {
		return fmt.Errorf("%s is %s and was never started", d.Name, r.Status.State)
	}
	has := r.Claim
	has.VCPUs, has.Memory = max(has.VCPUs, r.Held.CPUs), max(has.Memory, r.Held.Memory)
	s.ledger.Take(d.Name, has)
	l := s.live(e)
	l.claim, l.row, l.delay, l.began, l.until = r.Claim, r.Row, r.Delay, r.Began, r.Until
	l.size, l.held = r.Size, r.Held
	if r.Stop != nil {
		l.cancel(r.Stop)
	}
	s.lives.Go(l.run)
	s.maybeIdle(e)
	return nil
}
