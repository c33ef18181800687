package hosting

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"warder/supervisor/link"
	"warder/supervisor/services"
)

const (
	// maxHeld is how many connections may wait for one service at a time, maxAllHeld how
	// many for all of them: each is a call that the supervisor handles.
	maxHeld    = 64
	maxAllHeld = 1024
)

// demand is what connections make of a service that is started by them. It is guarded by
// the host's lock.
type demand struct {
	users   int  // connections that hold it
	waiting int  // of them, those that wait for it to run
	telling bool // that there are none any more
}

// Hold has a service that is declared to be started on demand run, and keeps it from
// being idle until release is called. It waits until the service runs, as long as that
// is declared to be waited for; alive ends with its VM. While others hold what it needs it
// waits in the queue of all who want to start something. The error is a *verify.Refusal
// when the machine does not have what it needs. Peer is the service whose connection it is, ""
// for one from outside.
func (h *Host) Hold(ctx context.Context, name, peer string) (alive context.Context, release func(), err error) {
	s, d, err := h.find(name)
	if err != nil {
		return nil, nil, err
	}
	h.mu.Lock()
	switch {
	case d.OnDemand == nil:
		err = fmt.Errorf("%w: %s is not started on demand", services.ErrState, name)
	case s.demand.waiting >= maxHeld, h.waiting >= maxAllHeld:
		err = fmt.Errorf("%w: %d connections wait for %s already, %d for all services", services.ErrState, s.demand.waiting, name, h.waiting)
	default:
		s.demand.users++
		s.demand.waiting++
		h.waiting++
	}
	h.mu.Unlock()
	if err != nil {
		return nil, nil, err
	}
	release = sync.OnceFunc(func() { h.release(s) })
	soon, cancel := context.WithTimeout(ctx, time.Duration(d.OnDemand.Wait))
	defer cancel()
	alive, err = h.bringUp(soon, s, peer)
	h.mu.Lock()
	s.demand.waiting--
	h.waiting--
	st := s.status()
	h.mu.Unlock()
	if err != nil {
		release()
		if errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil {
			err = fmt.Errorf("it is %s, and does not run after %v: %w", st.State, d.OnDemand.Wait, err)
		}
		return nil, nil, fmt.Errorf("%s, on demand: %w", name, err)
	}
	return alive, release, nil
}

// bringUp has the supervisor see to it that a service runs, and gives what ends with
// its VM.
func (h *Host) bringUp(ctx context.Context, s *service, peer string) (context.Context, error) {
	name := s.decl.Name
	r := &request{kind: link.Start, name: name, by: services.ByConnectionOf(peer)}
	number, end := h.begin(r)
	defer end()
	const most = 3 // times that it may end at the moment at which it is said to run
	for range most {
		var st services.Status
		err := h.askUntil(ctx, func() (string, any) {
			h.mu.Lock()
			defer h.mu.Unlock()
			return link.Demand, link.Demanded{Name: name, Peer: peer, Number: h.number(), Request: number, Begun: r.decided, Patience: patience(ctx)}
		}, &st)
		if err != nil {
			return nil, err
		}
		h.mu.Lock()
		v := s.vm
		h.mu.Unlock()
		if v != nil && v.booted.over() && v.living.Err() == nil {
			return v.living, nil
		}
	}
	return nil, fmt.Errorf("%w: it ends as soon as it runs", services.ErrState)
}

// patience is how long a connection waits for what others hold: a tenth of the time that it
// has is left for a start, without which that would be of no use to it.
func patience(ctx context.Context) time.Duration {
	deadline, ok := ctx.Deadline()
	if !ok {
		return 0
	}
	return time.Until(deadline) * 9 / 10
}

// release counts a connection less, and has the supervisor know of the last one. It does
// not wait for that.
func (h *Host) release(s *service) {
	h.mu.Lock()
	defer h.mu.Unlock()
	s.demand.users--
	if s.demand.users > 0 || s.demand.telling || h.closed {
		return
	}
	s.demand.telling = true
	go func() {
		// Of a host that has closed nobody needs to know it.
		_ = h.askUntil(context.Background(), func() (string, any) {
			h.mu.Lock()
			defer h.mu.Unlock()
			s.demand.telling = false // who comes and goes from here on has it told anew
			if s.demand.users > 0 {
				return "", nil // whoever came has said so
			}
			return link.Release, link.Released{Name: s.decl.Name, Number: h.number()}
		}, nil)
	}()
}
