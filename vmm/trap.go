package vmm

// A TrapFunc looks at a vCPU that has run into a hook: on amd64 a byte written
// to port 0xea, on arm64 a BRK #0x5744, put over the NOP at the start of a
// kernel function. It runs on the vCPU's thread, between exit and re-entry, so
// that the guest sees what it decides before the function's first instruction.
// It must not wait for another vCPU: see [Machine.WithVCPUsStopped].
type TrapFunc func(*VCPU) TrapAction

// TrapAction is what becomes of a vCPU at a hook: [Pass], [Return], [Decline],
// [Resume], [Call] or [Stand].
type TrapAction struct {
	kind  trapKind
	value uint64
	until <-chan struct{}
	then  func() TrapAction
}

type trapKind int

const (
	pass trapKind = iota
	skip
	decline
	resume
	call
	stand
)

// Pass lets the trapped function run: the hook stands in place of a NOP.
var Pass = TrapAction{}

// Decline says that there is no hook at this address: a guest may write to the
// port, or have that BRK, of its own accord. It gets what it would without traps:
// a write to a port where nothing is, an exception.
var Decline = TrapAction{kind: decline}

// Return has the trapped function return v to its caller at once. Linux'
// system-call handlers return an error as its negated number.
func Return(v int64) TrapAction { return TrapAction{kind: skip, value: uint64(v)} }

// Resume has the vCPU go on at an address: the hook stands in place of something
// shorter than it is, or of a jump.
func Resume(pc uint64) TrapAction { return TrapAction{kind: resume, value: pc} }

// Call has the vCPU call a function at an address, which returns behind the hook:
// the hook stands in place of a call.
func Call(pc uint64) TrapAction { return TrapAction{kind: call, value: pc} }

// Stand has the vCPU stand still until a channel is closed, and then do what
// then, called on the vCPU's thread, gives. Meanwhile it does what others ask of it,
// as [Machine.WithVCPUsStopped]; when the machine ends it leaves.
func Stand(until <-chan struct{}, then func() TrapAction) TrapAction {
	return TrapAction{kind: stand, until: until, then: then}
}

// TrapOwner gives what whoever sets the machine's trap function keeps with the
// machine: what make gave when it was first asked for.
func (m *Machine) TrapOwner(make func() any) any {
	m.owner.once.Do(func() { m.owner.value = make() })
	return m.owner.value
}

// SetTrap sets the function that hooks run into, or with nil takes it away:
// first the hooks, then the function.
//
// On arm64 the guest's own BRK instructions (BUG, WARN, kprobes, a debugger
// inside) exit as well while a function is set; they are given back to the
// guest as the exception it expects.
func (m *Machine) SetTrap(f TrapFunc) error {
	if f == nil {
		m.trap.Store(nil)
	} else {
		m.trap.Store(&f)
	}
	return m.eachVCPU((*VCPU).applyDebug)
}

// trapped runs the trap function on v and carries out what it says. For who
// steps through the guest, that is one instruction.
func (v *VCPU) trapped() error {
	v.debug.trapping = true
	err := v.runTrap()
	v.debug.trapping = false
	if err != nil {
		return err
	}
	v.steps()
	return nil
}

func (v *VCPU) runTrap() error {
	if err := v.atHook(); err != nil {
		return err
	}
	action := Decline
	if f := v.m.trap.Load(); f != nil {
		v.stats.traps.Add(1)
		action = (*f)(v)
	}
	for action.kind == stand {
		v.stand(action.until)
		if v.m.hasEnded() {
			return nil
		}
		action = action.then()
	}
	switch action.kind {
	case resume:
		return v.resumeTrap(action.value)
	case call:
		return v.callTrap(action.value)
	case skip:
		return v.returnFromTrap(action.value)
	case decline:
		return v.declineTrap()
	}
	return v.passTrap()
}

// StandBy has the vCPU do what others ask of it until done is closed or the
// machine ends. A [TrapFunc] that waits for somebody who stops the machine, as
// [Machine.Pause] does, waits by it: the vCPU stands still with the others, at the
// hook, until the machine is resumed.
func (v *VCPU) StandBy(done <-chan struct{}) { v.stand(done) }
