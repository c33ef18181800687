package vmm

import (
	"encoding/binary"
	"fmt"

	"warder/kvm"
)

// debugImmediate is that of the debugger's BRKs.
const debugImmediate = 0x5745

// breakpointCode is BRK #0x5745.
var breakpointCode = binary.LittleEndian.AppendUint32(nil, 0xd420_0000|debugImmediate<<5)

const breakpointAlign = 4

// softwareBreaks says whether KVM tells of a BRK in the guest: it always can.
func (m *Machine) softwareBreaks() bool { return true }

func (m *Machine) stepMode() (uint32, error) {
	can, err := m.vm.Check(kvm.CapSetGuestDebug)
	if err != nil || can == 0 {
		return 0, fmt.Errorf("vmm: this host's KVM has no guest debugging: %w", err)
	}
	return kvm.DebugSingleStep, nil
}

// watchable is how many bytes from va a register can watch: any that lie in one
// aligned word of 8.
func watchable(va, n uint64) uint64 { return min(n, 8-va%8) }

func (m *Machine) checkWatchpoints(w []Watchpoint) error {
	breakRegisters, err := m.vm.Check(kvm.CapGuestDebugHWBPs)
	if err != nil {
		return err
	}
	watchRegisters, err := m.vm.Check(kvm.CapGuestDebugHWWPs)
	if err != nil {
		return err
	}
	breaks := 0
	for _, w := range w {
		if w.Access == Execute {
			breaks++
		}
	}
	if watches := len(w) - breaks; breaks > breakRegisters || watches > watchRegisters {
		return &LimitError{reason: fmt.Sprintf("the CPU has registers for %d breakpoints and %d aligned pieces of watchpoints, not for %d and %d",
			breakRegisters, watchRegisters, breaks, watches)}
	}
	return nil
}

// Fields of DBGBCR<n>_EL1 and DBGWCR<n>_EL1 (Arm ARM, D19.3).
const (
	controlEnable  = 1 << 0
	controlEL1     = 1 << 1
	controlEL0     = 2 << 1
	breakAllBytes  = 0xf << 5
	watchLoadShift = 3
	watchByteShift = 5
)

// watchControl is the control register of a watchpoint on bytes of one word.
func watchControl(w Watchpoint) uint64 {
	kind := map[Access]uint64{Read: 1, Write: 2, ReadWrite: 3}[w.Access]
	bytes := (uint64(1)<<w.Len - 1) << (w.Addr % 8)
	return controlEnable | controlEL1 | controlEL0 | kind<<watchLoadShift | bytes<<watchByteShift
}

// applyDebug tells KVM which debug events of the vCPU are to exit: those that
// traps and the debugger need.
func (v *VCPU) applyDebug() error {
	var d kvm.GuestDebug
	if v.m.trap.Load() != nil || v.debug.software {
		d.Control |= kvm.DebugSoftware
	}
	if v.debug.step {
		d.Control |= v.debug.stepMode
	}
	breaks, watches := 0, 0
	for _, w := range v.debug.hardware {
		d.Control |= kvm.DebugHardware
		if w.Access == Execute {
			d.BVR[breaks], d.BCR[breaks] = w.Addr, controlEnable|controlEL1|controlEL0|breakAllBytes
			breaks++
		} else {
			d.WVR[watches], d.WCR[watches] = w.Addr&^7, watchControl(w)
			watches++
		}
	}
	if d.Control != 0 {
		d.Control |= kvm.DebugEnable
	}
	return v.fd.SetGuestDebug(&d)
}

// Exception classes and the immediate of a syndrome (Arm ARM, ESR_ELx).
const (
	classShift      = 26
	classBreakpoint = 0x30
	classStep       = 0x32
	classWatchpoint = 0x34
	classBKPT       = 0x38 // AArch32's BRK
	classBRK        = 0x3c
	lengthBit       = 1 << 25 // a 32-bit instruction
	brkImmediate    = 0xffff
)

// handleDebug tells our own BRKs, the debugger's events and the guest's own BRKs
// apart.
func (v *VCPU) handleDebug(e kvm.Debug) error {
	d := v.m.debugger.Load()
	class, immediate := e.HSR>>classShift&0x3f, e.HSR&brkImmediate
	switch {
	case class == classBRK && immediate == trapImmediate:
		return v.trapped()
	case class == classBRK && immediate == debugImmediate && d != nil && d.breakAt(v.PC()):
		d.stopped(v, Stop{Reason: AtBreakpoint, Addr: v.PC()})
	case class == classBRK, class == classBKPT:
		return v.giveBack(e.HSR)
	case d == nil:
		// It has gone between the event and here.
	case class == classStep:
		v.steps()
	case class == classBreakpoint:
		d.stopped(v, Stop{Reason: AtHardwareBreakpoint, Addr: v.PC()})
	case class == classWatchpoint:
		w, ok := watchedAt(v.debug.hardware, e.FAR)
		if !ok {
			w.Addr = e.FAR
		}
		d.stopped(v, Stop{Reason: AtWatchpoint, Addr: w.Addr})
	default:
		return fmt.Errorf("unexpected debug exception, syndrome %#x", e.HSR)
	}
	return nil
}

// giveBack takes the exception of a BRK that is the guest's own (BUG, WARN, a
// kprobe, a debugger's) as the CPU would have, had it not come to us.
func (v *VCPU) giveBack(syndrome uint64) error {
	pstate := v.reg(kvm.RegPState)
	handler, vector := exceptionEntry(pstate, v.reg(kvm.RegSCTLREL1))
	for _, r := range []struct {
		id    kvm.Reg
		value uint64
	}{
		{kvm.RegELREL1, v.PC()},
		{kvm.RegSPSREL1, pstate},
		{kvm.RegESREL1, syndrome & 0xffff_ffff},
		{kvm.RegPState, handler},
		{kvm.RegPC, v.reg(kvm.RegVBAREL1) + vector},
	} {
		if err := v.fd.SetOneReg(r.id, r.value); err != nil {
			return fmt.Errorf("give a BRK back to the guest: %w", err)
		}
	}
	v.steps()
	return nil
}
