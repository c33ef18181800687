package services

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"warder/guestinit/proto"
	"warder/supervisor/declaration"
	"warder/supervisor/verify"
)

// life is a service from the request that started it to where it holds nothing.
type life struct {
	set     *Set
	service *service
	decl    declaration.Service
	claim   verify.Claim    // what it held at first
	ctx     context.Context // ends with a *stopOrder
	cancel  context.CancelCauseFunc
	done    chan struct{} // closed when it is over

	vm      VM              // guarded by the set's lock; nil without one
	alive   context.Context // ends when nothing is left of vm; as vm
	ties    *ties           // of the command that runs; guarded by the set's lock
	command sync.WaitGroup
	killed  error // why its last VM was not stopped in good order
}

// A stopOrder is the cause of a life's end from outside.
type stopOrder struct {
	by      string
	timeout time.Duration // 0 for the declared one
	closing bool          // the host stops
}

func (o *stopOrder) Error() string { return "stopped by " + o.by }

const (
	// leftoverGrace is how long processes get that the command has left behind.
	leftoverGrace = time.Second
	// switchOff is how long a guest may take to switch off after its processes.
	switchOff = 30 * time.Second
)

// run is the whole life.
func (l *life) run() {
	state, why := l.rounds()
	order, told := context.Cause(l.ctx).(*stopOrder)
	if told {
		state, why = Stopped, order.Error()
		if l.killed != nil {
			why += ": " + l.killed.Error()
		}
	}
	s := l.set
	if s.journal != nil && !(told && order.closing) {
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
// state that it is in at last.
func (l *life) rounds() (State, string) {
	r := l.decl.Restart
	delay, row := time.Duration(r.Delay), 0
	for {
		began := time.Now()
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
		if time.Since(began) >= declaration.SteadyTime {
			delay, row = time.Duration(r.Delay), 0
		}
		if row++; r.Limit > 0 && row > r.Limit {
			return Failed, fmt.Sprintf("given up after %d new starts in a row: %s", r.Limit, why)
		}
		l.to(Waiting, fmt.Sprintf("%s; it is started again in %v", why, delay))
		select {
		case <-time.After(delay):
		case <-l.ctx.Done():
			return Stopped, ""
		}
		delay = min(2*delay, time.Duration(r.MaxDelay))
		l.to(Starting, "")
	}
}

func (l *life) to(state State, why string) {
	l.set.mu.Lock()
	defer l.set.mu.Unlock()
	l.set.to(l.service, state, why)
}

// round is one VM, from its start to its end. The error is of what went wrong
// around the command.
func (l *life) round() (proto.Status, error) {
	l.set.mu.Lock()
	l.service.status.Starts++
	l.set.mu.Unlock()
	vm, err := l.set.host.Boot(l.ctx, l.decl)
	if err != nil {
		return proto.Status{}, err
	}
	alive, gone := context.WithCancel(context.Background())
	defer gone()
	l.setVM(vm, alive)
	status, err := l.serve(vm)
	l.setVM(nil, nil)
	grace := leftoverGrace
	if order, ok := context.Cause(l.ctx).(*stopOrder); ok {
		if grace = order.timeout; grace == 0 {
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
	l.set.pool.freed()
	l.command.Wait()
	return status, err
}

func (l *life) setVM(vm VM, alive context.Context) {
	l.set.mu.Lock()
	defer l.set.mu.Unlock()
	l.vm, l.alive = vm, alive
}

func (l *life) setTies(t *ties) {
	l.set.mu.Lock()
	defer l.set.mu.Unlock()
	l.ties = t
}

// ending is how the command of a service, or its VM, ended.
type ending struct {
	status proto.Status
	err    error
}

// serve runs the service in its VM until it ends, is unwell, or is told to stop.
func (l *life) serve(vm VM) (proto.Status, error) {
	ended := make(chan ending, 1)
	if len(l.decl.Command) > 0 || l.decl.Image != "" {
		ties := newTies()
		stdio, flush := l.service.stdio(ties)
		p, err := vm.Start(l.ctx, Command(l.decl), stdio)
		if err != nil {
			return proto.Status{}, err
		}
		ties.process = p
		l.setTies(ties)
		l.command.Go(func() {
			// Until the VM is gone at the latest; told to stop, it is stopped in good order.
			status, err := p.Wait(context.WithoutCancel(l.ctx))
			flush()
			l.setTies(nil)
			ties.end(status, err)
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
		l.to(Running, "")
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

// Command is what a service runs in its VM. What it leaves open says its image, which
// the VM knows.
func Command(d declaration.Service) proto.Command {
	c := proto.Command{Args: d.Command, Dir: d.Workdir, User: d.User}
	if d.TTY {
		c.TTY, c.Cols, c.Rows = true, 80, 24 // until somebody is attached who says
	}
	for _, name := range slices.Sorted(maps.Keys(d.Env)) {
		c.Env = append(c.Env, name+"="+d.Env[name])
	}
	return c
}
