package vmm

import (
	"encoding/binary"
	"errors"
	"fmt"

	"warder/kvm"
	"warder/vmm/hostinfo"
)

// breakpointCode is INT3.
var breakpointCode = []byte{0xcc}

const breakpointAlign = 1

// softwareBreaks says whether KVM tells of an INT3 in the guest. Where KVM is
// itself emulated by QEMU it does not.
func (m *Machine) softwareBreaks() bool { return hostinfo.BreakpointsExit(m.cfg.DevKVM) }

// stepMode keeps interrupts away from a vCPU that steps, where KVM can: else one
// step of a guest that is due for a timer's interrupt ends in its handler.
func (m *Machine) stepMode() (uint32, error) {
	can, err := m.vm.Check(kvm.CapSetGuestDebug)
	if err != nil || can == 0 {
		return 0, fmt.Errorf("vmm: this host's KVM has no guest debugging: %w", err)
	}
	known, err := m.vm.Check(kvm.CapSetGuestDebug2)
	if err != nil {
		return 0, err
	}
	return kvm.DebugSingleStep | uint32(known)&kvm.DebugBlockIRQ, nil
}

// watchRegisters is how many debug registers hold an address (Intel SDM volume
// 3B, section 18.2).
const watchRegisters = 4

// watchable is how many bytes from va a register can watch: 1, 2, 4 or 8 that
// are aligned.
func watchable(va, n uint64) uint64 {
	size := uint64(8)
	for va%size != 0 || size > n {
		size /= 2
	}
	return size
}

func (m *Machine) checkWatchpoints(w []Watchpoint) error {
	if len(w) > watchRegisters {
		return &LimitError{reason: fmt.Sprintf("the CPU's %d debug registers do not do for %d breakpoints and aligned pieces of watchpoints", watchRegisters, len(w))}
	}
	for _, w := range w {
		if w.Access == Read {
			return &LimitError{"x86 can't watch for reads alone: watch for reads and writes", errors.ErrUnsupported}
		}
	}
	return nil
}

// Fields of DR7 and DR6.
const (
	dr7Reserved = 1 << 10
	dr6Step     = 1 << 14
	flagTF      = 1 << 8
)

// dr7 enables and describes the watchpoints in DR0 to DR3.
func dr7(w []Watchpoint) uint64 {
	v := uint64(dr7Reserved)
	for i, w := range w {
		kind := map[Access]uint64{Execute: 0, Write: 1, ReadWrite: 3}[w.Access]
		length := map[uint64]uint64{1: 0, 2: 1, 4: 3, 8: 2}[w.Len]
		v |= 2<<(2*i) | (kind|length<<2)<<(16+4*i)
	}
	return v
}

// applyDebug tells KVM which debug events of the vCPU are to exit: those that
// the debugger asks for. Traps need none, but registers.
func (v *VCPU) applyDebug() error {
	if err := v.keepSregs(v.m.trap.Load() != nil); err != nil {
		return err
	}
	return v.setGuestDebug(0)
}

// setGuestDebug is applyDebug with an exception for the guest, given once.
func (v *VCPU) setGuestDebug(inject uint32) error {
	d := kvm.GuestDebug{Control: inject}
	if v.debug.step {
		d.Control |= v.debug.stepMode
	}
	if v.debug.software {
		d.Control |= kvm.DebugSoftware
	}
	if len(v.debug.hardware) > 0 {
		d.Control |= kvm.DebugHardware
		for i, w := range v.debug.hardware {
			d.DebugReg[i] = w.Addr
		}
		d.DebugReg[7] = dr7(v.debug.hardware)
	}
	if d.Control != 0 {
		d.Control |= kvm.DebugEnable
	}
	return v.fd.SetGuestDebug(&d)
}

// Exceptions of a debug exit.
const (
	vectorDB = 1
	vectorBP = 3
)

// handleDebug tells the debugger's events from the guest's own.
func (v *VCPU) handleDebug(e kvm.Debug) error {
	d := v.m.debugger.Load()
	if e.Exception == vectorBP {
		if d != nil && d.breakAt(e.PC) {
			d.stopped(v, Stop{Reason: AtBreakpoint, Addr: e.PC})
			return nil
		}
		return v.setGuestDebug(kvm.DebugInjectBP)
	}
	if d != nil {
		for i, w := range v.debug.hardware {
			if e.DR6&(1<<i) == 0 {
				continue
			}
			s := Stop{Reason: AtWatchpoint, Addr: w.Addr}
			if w.Access == Execute {
				s.Reason = AtHardwareBreakpoint
			}
			d.stopped(v, s)
			return nil
		}
		if e.DR6&dr6Step != 0 && v.debug.step {
			d.stopped(v, Stop{Reason: Stepped, Addr: e.PC})
			return nil
		}
	}
	return v.giveBackDB(e.DR6)
}

// giveBackDB has the guest take the debug exception that it has made itself: by
// its trap flag, or by INT1.
func (v *VCPU) giveBackDB(dr6 uint64) error {
	regs, err := v.fd.GetDebugRegs()
	if err != nil {
		return err
	}
	regs.DR6 = dr6
	if err := v.fd.SetDebugRegs(&regs); err != nil {
		return fmt.Errorf("give a debug exception back to the guest: %w", err)
	}
	return v.setGuestDebug(kvm.DebugInjectDB)
}

// stepping is what has to be put right after a step. KVM steps by the guest's
// trap flag, which an instruction that saves the flags saves too.
type stepping struct {
	from uint64
	flag savedFlag
}

type savedFlag int

const (
	savedNowhere savedFlag = iota
	savedOnStack
	savedInR11
)

// beginStep looks at the instruction that is to be done.
func (v *VCPU) beginStep() error {
	v.debug.stepping = stepping{from: v.PC()}
	code := v.word[:2]
	if v.ReadVirtual(v.PC(), code) != nil {
		return nil // fetching it will fault
	}
	v.debug.stepping.flag = flagSaved([2]byte(code))
	return nil
}

// flagSaved says where an instruction saves the flags: PUSHF (with an operand
// size) and SYSCALL.
func flagSaved(code [2]byte) savedFlag {
	switch {
	case code[0] == 0x9c, code == [2]byte{0x66, 0x9c}:
		return savedOnStack
	case code == [2]byte{0x0f, 0x05}:
		return savedInR11
	}
	return savedNowhere
}

// endStep takes KVM's trap flag out of the flags that the step has saved.
func (v *VCPU) endStep() {
	if !v.debug.step {
		return
	}
	v.debug.step = false
	s, r := v.debug.stepping, v.regs()
	if r.RIP == s.from || r.RFLAGS&flagTF != 0 {
		return // not done; or the flag is the guest's own
	}
	switch s.flag {
	case savedOnStack:
		var p [2]byte
		if v.ReadVirtual(r.RSP, p[:]) == nil {
			binary.LittleEndian.PutUint16(p[:], binary.LittleEndian.Uint16(p[:])&^flagTF)
			_ = v.WriteVirtual(r.RSP, p[:]) // the guest has just written there
		}
	case savedInR11:
		r.R11 &^= flagTF
		_ = v.fd.SetRegs(r) // which can't fail for these registers
		v.setRegs()
	}
}
