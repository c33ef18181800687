package vmm

import "warder/kvm"

// A registerField is one register by its KVM id. That of the stack pointer is
// the one in use.
type registerField struct {
	set, name string
	size      int
	id        kvm.Reg
}

const stackPointer = "sp"

var registerFields = func() []registerField {
	var all []registerField
	add := func(set, name string, size int, id kvm.Reg) {
		all = append(all, registerField{set, name, size, id})
	}
	for i, name := range numbered("x", 31) {
		add(CoreRegisters, name, 8, kvm.RegX(i))
	}
	add(CoreRegisters, stackPointer, 8, kvm.RegSPEL1)
	add(CoreRegisters, "pc", 8, kvm.RegPC)
	add(CoreRegisters, "cpsr", 4, kvm.RegPState)
	for i, name := range numbered("v", 32) {
		add(VectorRegisters, name, 16, kvm.RegV(i))
	}
	add(VectorRegisters, "fpsr", 4, kvm.RegFPSR)
	add(VectorRegisters, "fpcr", 4, kvm.RegFPCR)
	for _, r := range []struct {
		name string
		id   kvm.Reg
	}{
		{"sp_el0", kvm.RegSPEL0}, {"sp_el1", kvm.RegSPEL1}, {"elr_el1", kvm.RegELREL1}, {"spsr_el1", kvm.RegSPSREL1},
		{"esr_el1", kvm.RegESREL1}, {"far_el1", kvm.RegFAREL1}, {"vbar_el1", kvm.RegVBAREL1},
		{"sctlr_el1", kvm.RegSCTLREL1}, {"tcr_el1", kvm.RegTCREL1}, {"ttbr0_el1", kvm.RegTTBR0EL1}, {"ttbr1_el1", kvm.RegTTBR1EL1},
		{"mair_el1", kvm.RegMAIREL1}, {"cpacr_el1", kvm.RegCPACREL1}, {"contextidr_el1", kvm.RegCONTEXTIDREL1},
		{"tpidr_el0", kvm.RegTPIDREL0}, {"tpidrro_el0", kvm.RegTPIDRROEL0}, {"tpidr_el1", kvm.RegTPIDREL1},
	} {
		add(SystemRegisters, r.name, 8, r.id)
	}
	return all
}()

// cpuState is a vCPU whose registers are read one by one.
type cpuState struct {
	v  *VCPU
	sp kvm.Reg // the stack pointer in use
}

func (v *VCPU) readState() (*cpuState, error) {
	pstate, err := v.fd.GetOneReg(kvm.RegPState)
	if err != nil {
		return nil, err
	}
	st := &cpuState{v, kvm.RegSPEL0}
	if pstate&pstateMode == pstateEL1h {
		st.sp = kvm.RegSPEL1
	}
	return st, nil
}

// register is f's id and its size with KVM.
func (st *cpuState) register(f *registerField) kvm.Reg {
	if f.name == stackPointer {
		return st.sp
	}
	return f.id
}

func (st *cpuState) get(f *registerField) ([]byte, error) {
	id := st.register(f)
	p := make([]byte, id.Size())
	err := st.v.fd.GetOneRegBytes(id, p)
	return p[:f.size], err
}

func (st *cpuState) set(f *registerField, p []byte) error {
	id := st.register(f)
	all := make([]byte, id.Size())
	copy(all, p)
	return st.v.fd.SetOneRegBytes(id, all)
}
