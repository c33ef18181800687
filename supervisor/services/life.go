package services

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"warder/guestinit/proto"
	"warder/supervisor/declaration"
	"warder/supervisor/sizing"
	"warder/supervisor/verify"
)

// life is a service from the request that started it to where it holds nothing.
type life struct {
	set     *Set
	service *service
	decl    declaration.Service
	ctx     context.Context // ends with a *StopOrder
	cancel  context.CancelCauseFunc
	done    chan struct{} // closed when it is over

	claim   verify.Claim // what it held at first
	command sync.WaitGroup
	killed  error // why its last VM was not stopped in good order

	// Of its row of new starts, changed under the set's lock.
	row   int
	delay time.Duration // before the next new start
	began time.Time     // when the last start was
	until time.Time     // when a new start is due

	// Of its VM, changed under the set's lock; zero until it is let have another size.
	size, held sizing.Size
}

// A StopOrder is the cause of a life's end from outside.
type StopOrder struct {
	By      string        `json:"by"`
	Timeout time.Duration `json:"timeout_ns,omitempty"` // 0 for the declared one
	Closing bool          `json:"closing,omitempty"`    // the host stops
}

func (o *StopOrder) Error() string { return "stopped by " + o.By }

const (
	// leftoverGrace is how long processes get that the command has left behind.
	leftoverGrace = time.Second
	// switchOff is how long a guest may take to switch off after its processes.
	switchOff = 30 * time.Second
)

// run is the whole life.
func (l *life) run() {
	state, why := l.rounds()
	order, told := context.Cause(l.ctx).(*StopOrder)
	if told {
		state, why = Stopped, order.Error()
		if l.killed != nil {
			why += ": " + l.killed.Error()
		}
	}
	s := l.set
	if !told || !order.Closing {
		if err := s.journal.Ended(l.decl.Name); err != nil {
			why = fmt.Sprintf("%s; it could not be taken out of the journal: %v", why, err)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	defer close(l.done)
	l.cancel(nil)
	s.ledger.Return(l.decl.Name)
	s.pool.freed()
	l.service.life = nil
	s.to(l.service, state, why)
}

// rounds starts the service again and again as its policy says, and gives the
// state that it is in at last. It may begin anywhere in a life of which a set before
// this one has seen the first part.
func (l *life) rounds() (State, string) {
	r := l.decl.Restart
	if !l.until.IsZero() && !l.again() {
		return Stopped, ""
	}
	for {
		status, err := l.round()
		if l.ctx.Err() != nil {
			return Stopped, ""
		}
		failed := err != nil || status.ExitCode() != 0
		why := "its command ended with status 0"
		switch {
		case err != nil:
			why = err.Error()
		case status.OutOfMemory:
			why = fmt.Sprintf("its command ended with status %d: the guest ran out of memory (give it more)", status.ExitCode())
		default:
			why = fmt.Sprintf("its command ended with status %d", status.ExitCode())
		}
		if r.Policy == declaration.RestartNever || r.Policy == declaration.RestartOnFailure && !failed {
			if failed {
				return Failed, why
			}
			return Ended, why
		}
		if !l.wait(why) {
			return Failed, fmt.Sprintf("given up after %d new starts in a row: %s", r.Limit, why)
		}
		if !l.again() {
			return Stopped, ""
		}
	}
}

// wait makes it a service that waits to be started again, unless that has been tried
// too often.
func (l *life) wait(why string) bool {
	l.set.mu.Lock()
	defer l.set.mu.Unlock()
	r := l.decl.Restart
	if time.Since(l.began) >= declaration.SteadyTime {
		l.delay, l.row = time.Duration(r.Delay), 0
	}
	if l.row++; r.Limit > 0 && l.row > r.Limit {
		return false
	}
	pause := l.delay
	l.until, l.delay = time.Now().Add(pause), min(2*pause, time.Duration(r.MaxDelay))
	l.set.to(l.service, Waiting, fmt.Sprintf("%s; it is started again in %v", why, pause))
	return true
}

// again lets the pause pass, and says that the next start is, unless the service is
// told to stop before.
func (l *life) again() bool {
	pause := time.NewTimer(time.Until(l.until))
	defer pause.Stop()
	select {
	case <-pause.C:
	case <-l.ctx.Done():
		return false
	}
	l.set.mu.Lock()
	defer l.set.mu.Unlock()
	l.until, l.began = time.Time{}, time.Now()
	l.service.status.Starts++
	l.set.to(l.service, Starting, "")
	return true
}

func (l *life) to(state State, why string) {
	l.set.mu.Lock()
	defer l.set.mu.Unlock()
	l.set.to(l.service, state, why)
}

// ran tells whether the command of this start was started by a set before this one.
func (l *life) ran() bool {
	l.set.mu.Lock()
	defer l.set.mu.Unlock()
	return l.service.status.State != Starting
}

// runs makes a service that starts one that runs.
func (l *life) runs() {
	l.set.mu.Lock()
	defer l.set.mu.Unlock()
	if l.service.status.State == Starting && l.ctx.Err() == nil {
		l.set.to(l.service, Running, "")
	}
}

// round is one VM, from its start to its end. The error is of what went wrong
// around the command.
func (l *life) round() (proto.Status, error) {
	vm, err := l.boot()
	if vm == nil {
		return proto.Status{}, err
	}
	status, err := l.serve(vm)
	grace := leftoverGrace
	if order, ok := context.Cause(l.ctx).(*StopOrder); ok {
		if grace = order.Timeout; grace == 0 {
			grace = time.Duration(l.decl.StopTimeout)
		}
		l.to(Stopping, order.Error())
	} else {
		l.to(Stopping, "")
	}
	ctx, cancel := context.WithTimeout(context.Background(), grace+switchOff)
	defer cancel()
	if l.killed = vm.Stop(ctx, grace); l.killed != nil {
		err = errors.Join(err, l.killed)
	}
	l.set.ledger.Resize(l.decl.Name, l.claim.VCPUs, l.claim.Memory) // what it was given on top was that VM's
	l.let(sizing.Size{}, sizing.Size{})
	l.set.pool.freed()
	l.command.Wait()
	return status, err
}

// boot gives the VM of this start: after the first part of its life the one that
// there is, even if the service is to be stopped.
func (l *life) boot() (VM, error) {
	l.set.mu.Lock()
	start := l.service.status.Starts
	l.set.mu.Unlock()
	if !l.ran() {
		return l.set.host.Boot(l.ctx, l.decl.Name, start, false)
	}
	vm, err := l.set.host.Boot(context.WithoutCancel(l.ctx), l.decl.Name, start, true)
	if vm == nil && err == nil {
		err = errors.New("its VM is gone")
	}
	return vm, err
}

// ending is how the command of a service, or its VM, ended.
type ending struct {
	status proto.Status
	err    error
}

// serve runs the service in its VM until it ends, is unwell, or is told to stop.
func (l *life) serve(vm VM) (proto.Status, error) {
	ended := make(chan ending, 1)
	ctx := l.ctx
	if l.ran() {
		ctx = context.WithoutCancel(ctx) // how it ends is to be known all the same
	}
	if l.decl.Runs() && ctx.Err() == nil {
		p, err := vm.Run(ctx)
		if err != nil {
			return proto.Status{}, err
		}
		l.command.Go(func() {
			// Until the VM is gone at the latest; told to stop, it is stopped in good order.
			status, err := p.Wait(context.WithoutCancel(l.ctx))
			l.exited(status, err)
			ended <- ending{status, err}
		})
	}
	checking, stop := context.WithCancel(l.ctx)
	unwell := make(chan error, 1)
	var checks chan struct{}
	if l.decl.Health != nil {
		checks = make(chan struct{})
		go func() {
			defer close(checks)
			if err := l.watchHealth(checking, vm); err != nil {
				unwell <- err
			}
		}()
	} else {
		l.runs()
	}
	var following sync.WaitGroup
	if l.decl.Sized() {
		following.Go(func() { l.follow(checking, vm) })
	}
	defer func() {
		stop()
		following.Wait()
		if checks != nil {
			<-checks
		}
	}()
	select {
	case e := <-ended:
		return e.status, e.err
	case <-vm.Done():
		select {
		case e := <-ended: // it may have come first
			return e.status, e.err
		default:
		}
		return proto.Status{}, vm.Ended()
	case err := <-unwell:
		return proto.Status{}, err
	case <-l.ctx.Done():
		return proto.Status{}, nil
	}
}

// exited notes how the command ended, if it is known.
func (l *life) exited(status proto.Status, err error) {
	if err != nil {
		return
	}
	l.set.mu.Lock()
	defer l.set.mu.Unlock()
	l.service.status.Exit = &status
}
