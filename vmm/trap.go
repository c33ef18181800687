package vmm

// A TrapFunc looks at a vCPU that has run into a hook: on amd64 a byte written
// to port 0xea, on arm64 a BRK #0x5744, put over the NOP at the start of a
// kernel function. It runs on the vCPU's thread, between exit and re-entry, so
// that the guest sees what it decides before the function's first instruction.
// It must not wait for another vCPU: see [Machine.WithPaused].
type TrapFunc func(*VCPU) TrapAction

// TrapAction is what becomes of a trapped call: [Pass] or [Return].
type TrapAction struct {
	skip  bool
	value uint64
}

// Pass lets the trapped function run.
var Pass = TrapAction{}

// Return has the trapped function return v to its caller at once. Linux'
// system-call handlers return an error as its negated number.
func Return(v int64) TrapAction { return TrapAction{skip: true, value: uint64(v)} }

// SetTrap sets the function that hooks run into, or with nil takes it away. A
// hook that is hit while there is no function is passed.
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
	return m.eachVCPU(func(v *VCPU) error { return v.armTraps(f != nil) })
}

// trapped runs the trap function on v and carries out what it says.
func (v *VCPU) trapped() error {
	if err := v.atHook(); err != nil {
		return err
	}
	f := v.m.trap.Load()
	if f == nil {
		return v.passTrap()
	}
	v.stats.traps.Add(1)
	if a := (*f)(v); a.skip {
		return v.returnFromTrap(a.value)
	}
	return v.passTrap()
}
