package services

import (
	"cmp"
	"context"
	"fmt"
	"time"

	"warder/guestinit/proto"
	"warder/supervisor/declaration"
	"warder/supervisor/sizing"
	"warder/supervisor/verify"
)

const (
	// lookEvery is how often an elastic service's guest is asked how it fares, when
	// nothing makes it be asked sooner.
	lookEvery = time.Second
	// lookTime is how long it may take to say so, or to do what it is told.
	lookTime = 10 * time.Second
	// lookGap is the least time between two looks, whatever a guest says.
	lookGap = 20 * time.Millisecond
)

// bounds are what a service may have. What it claims it holds from its start.
func bounds(d declaration.Service, c verify.Claim) sizing.Bounds {
	weight := cmp.Or(d.CPUWeight, declaration.DefaultCPUWeight)
	b := sizing.Bounds{
		Min: sizing.Size{Memory: c.Memory, CPUs: c.VCPUs, Weight: weight},
		Max: sizing.Size{Memory: max(c.Memory, uint64(d.Memory.Most)), CPUs: max(c.VCPUs, d.CPUs), Weight: weight},
	}
	if d.Priority > 0 {
		b.Max.Weight = sizing.Boosted(weight)
	}
	return b
}

// sizer has the size of one VM follow what its guest needs.
type sizer struct {
	life   *life
	vm     VM
	bounds sizing.Bounds
	size   sizing.Size // that the VM is let have
	held   sizing.Size // in the books: that, and what it has not given back yet
	state  sizing.State
	want   *place // its place among those who wait for more; nil when it does not
	failed string // why it could not be told of its size the last time
}

// follow has a VM's size follow its need until ctx ends.
func (l *life) follow(ctx context.Context, vm VM) {
	b := bounds(l.decl, l.claim)
	z := &sizer{life: l, vm: vm, bounds: b, size: b.Min, held: b.Min}
	if size, held := l.has(); size != (sizing.Size{}) { // a set before this one has seen to it
		z.size, z.held = size, held
	}
	timer := time.NewTimer(lookEvery)
	defer timer.Stop()
	defer z.satisfied()
	for {
		pressed := false
		select {
		case <-ctx.Done():
			return
		case <-vm.Done():
			return
		case short := <-vm.Shortages():
			pressed = short.Resource == proto.Memory
		case <-z.turn():
		case <-timer.C:
		}
		z.look(ctx, pressed)
		timer.Reset(lookEvery)
		select {
		case <-ctx.Done():
			return
		case <-time.After(lookGap):
		}
	}
}

// look sees how the guest fares, and has it be as large as it should be then, as
// far as the books let it. Pressed is whether it has called for memory.
func (z *sizer) look(ctx context.Context, pressed bool) {
	ctx, cancel := context.WithTimeout(ctx, lookTime)
	defer cancel()
	s, err := z.vm.Sample(ctx)
	if err != nil {
		return // it stands still, or cannot tell: it keeps what it has
	}
	s.Asked, s.Pressed, s.Wanted = z.size, pressed, z.life.set.pool.wanted(z.life.decl.Name)
	s.Senior = z.life.set.senior(z.life.decl.Priority)
	var order sizing.Order
	z.state, order = sizing.Next(z.state, s, z.bounds)
	to := z.grant(order.Size, s.Has)
	if to == z.size {
		return
	}
	if err := z.vm.Resize(ctx, z.size, to); err != nil {
		if z.failed != err.Error() { // once, not each time that it is tried
			z.failed = err.Error()
			z.life.sized(Sized{From: z.size, To: z.size}, fmt.Sprintf("%s; it could not be told to have more or less: %v", order.Why, err))
		}
		return
	}
	z.failed = ""
	z.life.let(to, z.held)
	z.life.sized(Sized{From: z.size, To: to}, order.Why)
	z.size = to
}

// grant has the books say how much of an order there is. For what there is not it
// waits, as long as it wants it.
func (z *sizer) grant(order, has sizing.Size) sizing.Size {
	set, name := z.life.set, z.life.decl.Name
	more := order.Memory > z.size.Memory || order.CPUs > z.size.CPUs
	if more && z.want == nil {
		z.want = set.pool.wait(name, z.life.decl.Priority, verify.ToGrow, time.Now())
	}
	may := order
	if more && !set.pool.first(z.want) { // what there is, is for others
		may.Memory, may.CPUs = min(order.Memory, z.size.Memory), min(order.CPUs, z.size.CPUs)
	}
	before := z.held
	z.held.CPUs, z.held.Memory = set.ledger.Resize(name,
		hold(may.CPUs, z.size.CPUs, has.CPUs, z.held.CPUs), hold(may.Memory, z.size.Memory, has.Memory, z.held.Memory))
	to := sizing.Size{Memory: may.Memory, CPUs: min(may.CPUs, z.held.CPUs), Weight: order.Weight}
	if z.held.Memory < may.Memory {
		to.Memory = max(z.held.Memory/sizing.Grain*sizing.Grain, z.size.Memory)
	}
	if to.Memory >= order.Memory && to.CPUs >= order.CPUs {
		z.satisfied()
	}
	if z.held.Memory < before.Memory || z.held.CPUs < before.CPUs {
		set.pool.freed()
	}
	return to
}

// turn has a value when it may be the sizer's turn to get more.
func (z *sizer) turn() <-chan struct{} {
	if z.want == nil {
		return nil
	}
	return z.want.turn
}

// satisfied ends the wait for more, if there is one.
func (z *sizer) satisfied() {
	if z.want != nil {
		z.life.set.pool.leave(z.want)
		z.want = nil
	}
}

// hold is how much the books have to have of one resource. What a guest is to give
// back is its own until it has been told to, and then has; more than it held it
// gets by being let have it, not by saying that it has it.
func hold[T int | uint64](order, size, has, held T) T {
	if order < size {
		return held
	}
	return max(order, min(has, held))
}

// senior tells whether a service of smaller priority is active.
func (s *Set) senior(priority int) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, e := range s.services {
		if e.status.State.Active() && e.decl.Priority < priority {
			return true
		}
	}
	return false
}

// has is what a service is let have and holds, zero for what it has at first.
func (l *life) has() (size, held sizing.Size) {
	l.set.mu.Lock()
	defer l.set.mu.Unlock()
	return l.size, l.held
}

// let notes what a service is let have, and holds.
func (l *life) let(size, held sizing.Size) {
	l.set.mu.Lock()
	defer l.set.mu.Unlock()
	l.size, l.held = size, held
}

// sized tells that a service is let have another size.
func (l *life) sized(by Sized, why string) {
	s := l.set
	s.mu.Lock()
	defer s.mu.Unlock()
	s.journal.Sized(l.service.record(l.service.status), by, why)
}
