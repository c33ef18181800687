package vmm

import (
	"encoding/binary"
	"fmt"

	"warder/kvm"
)

// stepping is a step that is under way. An interrupt that is pending would be
// taken before the instruction, and the step end in its handler; so interrupts
// are masked for the step, and what the instruction has made of that is put
// right.
type stepping struct {
	from   uint64
	insn   uint32
	masked bool // by beginStep
}

// beginStep masks interrupts, unless the guest has.
func (v *VCPU) beginStep() error {
	s := stepping{from: v.PC()}
	if code := v.word[:4]; v.ReadVirtual(s.from, code) == nil {
		s.insn = binary.LittleEndian.Uint32(code)
	}
	pstate, err := v.fd.GetOneReg(kvm.RegPState)
	if err != nil {
		return err
	}
	if pstate&pstateI == 0 {
		s.masked = true
		if err := v.fd.SetOneReg(kvm.RegPState, pstate|pstateI); err != nil {
			return fmt.Errorf("vmm: mask interrupts for a step: %w", err)
		}
	}
	v.debug.stepping = s
	return nil
}

// endStep makes of the mask what it would be without beginStep.
func (v *VCPU) endStep() {
	if !v.debug.step {
		return
	}
	v.debug.step = false
	s := v.debug.stepping
	if !s.masked {
		return
	}
	unmask := func(id kvm.Reg) {
		if err := v.fd.SetOneReg(id, v.reg(id)&^pstateI); err != nil {
			v.m.log.Error("interrupts stay masked after a step", "vcpu", v.id, "err", err)
		}
	}
	switch s.where(v.PC(), v.reg(kvm.RegVBAREL1), v.reg(kvm.RegELREL1)) {
	case maskInPState:
		unmask(kvm.RegPState)
	case maskSaved:
		unmask(kvm.RegSPSREL1)
	case maskRead:
		unmask(kvm.RegPState)
		if rt := s.insn & 31; rt != 31 {
			unmask(kvm.RegX(int(rt)))
		}
	}
}

// maskPlace is where the mask of beginStep is after the step.
type maskPlace int

const (
	maskInPState maskPlace = iota
	maskSaved              // in SPSR_EL1, by an exception
	maskRead               // in PSTATE and in a register that the instruction has read it to
	maskGone               // the instruction has set the mask itself
)

// The instructions that concern the mask (Arm ARM, C5.2.2, C5.6, C6.2.113).
const (
	insnERET     = 0xd69f_03e0
	insnERETAA   = 0xd69f_0bff // without the bit of the key
	insnMSRDAIF  = 0xd51b_4220
	insnMRSDAIF  = 0xd53b_4220
	insnDAIFSet  = 0xd503_40df
	insnDAIFClr  = 0xd503_40ff
	insnDAIFBitI = 2 << 8
)

// where says where the mask is when the vCPU has come to pc.
func (s stepping) where(pc, vbar, elr uint64) maskPlace {
	if pc == s.from {
		return maskInPState // not done, or a branch to itself
	}
	switch {
	case s.insn == insnERET, s.insn&^(1<<10) == insnERETAA, s.insn&^31 == insnMSRDAIF:
		return maskGone
	case s.insn&^(0xf<<8) == insnDAIFSet, s.insn&^(0xf<<8) == insnDAIFClr:
		if s.insn&insnDAIFBitI != 0 {
			return maskGone
		}
		return maskInPState
	}
	const vectors = 0x800
	if pc-vbar < vectors && (elr == s.from || elr == s.from+4) {
		return maskSaved
	}
	if s.insn&^31 == insnMRSDAIF {
		return maskRead
	}
	return maskInPState
}
