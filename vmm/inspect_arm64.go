package vmm

import (
	"fmt"

	"warder/kvm"
	"warder/vmm/disasm"
	"warder/vmm/pagetable"
)

// reg is a register by its KVM id, 0 if KVM does not give it.
func (v *VCPU) reg(id kvm.Reg) uint64 {
	x, err := v.fd.GetOneReg(id)
	if err != nil {
		v.m.log.Error("register not readable", "vcpu", v.id, "id", id, "err", err)
	}
	return x
}

// PC is the address of the instruction the vCPU stands at.
func (v *VCPU) PC() uint64 { return v.reg(kvm.RegPC) }

// Arg is argument n, from 0, of the function at whose first instruction the
// vCPU stands (AAPCS64, section 6.8.2). Beyond the eight that travel in
// registers it is 0.
func (v *VCPU) Arg(n int) uint64 {
	if n < 0 || n > 7 {
		return 0
	}
	return v.reg(kvm.RegX(n))
}

// pagingRegisters are those that an address space is made of.
type pagingRegisters = pagetable.ARM64

// AddressSpace is how the vCPU translates virtual addresses now.
func (v *VCPU) AddressSpace() (pagetable.Space, error) {
	a, err := v.kernelRegisters()
	if err == nil {
		a.TTBR0, err = v.fd.GetOneReg(kvm.RegTTBR0EL1)
	}
	if err != nil {
		return pagetable.Space{}, err
	}
	return v.spaceOf(a), nil
}

// kernelRegisters are those that an address space is made of, but for TTBR0.
func (v *VCPU) kernelRegisters() (a pagetable.ARM64, err error) {
	for _, r := range []struct {
		id  kvm.Reg
		dst *uint64
	}{
		{kvm.RegSCTLREL1, &a.SCTLR}, {kvm.RegTTBR1EL1, &a.TTBR1}, {kvm.RegTCREL1, &a.TCR},
	} {
		if *r.dst, err = v.fd.GetOneReg(r.id); err != nil {
			return a, err
		}
	}
	return a, nil
}

// kernelHits is how many hooks in a row the kernel's half of the address space is
// taken to be as it was.
const kernelHits = 32

// kernelHalf is the latest half of a vCPU's that is the kernel's, with what it was made
// of. It belongs to the vCPU's thread.
type kernelHalf struct {
	registers pagetable.ARM64
	space     pagetable.Space
	left      int  // hooks until it is to be read again
	moves     bool // it was another one before
}

// KernelSpace is [VCPU.AddressSpace] without the half that programs have, at a hook.
// Each of its registers is a system call on arm64, and Linux leaves those of the
// kernel's half as they are from the start of its first program on. So they are read at one hook of
// 32, and where somebody is not sure; at each, once they were found to have changed. It
// is for the vCPU's thread.
func (v *VCPU) KernelSpace(sure bool) (pagetable.Space, error) {
	k := &v.m.arch.halves[v.id]
	if k.left > 0 && !sure {
		k.left--
		return k.space, nil
	}
	registers, err := v.kernelRegisters()
	if err != nil {
		return pagetable.Space{}, err
	}
	space := registers.KernelSpace()
	if k.space != (pagetable.Space{}) && k.space != space {
		k.moves = true
	}
	k.registers, k.space = registers, space
	if k.left = kernelHits - 1; k.moves {
		k.left = 0
	}
	return space, nil
}

// WholeSpace is what KernelSpace gave last, with the half that programs have now.
func (v *VCPU) WholeSpace() (pagetable.Space, error) {
	a := v.m.arch.halves[v.id].registers
	var err error
	if a.TTBR0, err = v.fd.GetOneReg(kvm.RegTTBR0EL1); err != nil {
		return pagetable.Space{}, err
	}
	return v.spaceOf(a), nil
}

// InKernel says whether the vCPU runs the guest's kernel, and not a program.
func (v *VCPU) InKernel() (bool, error) {
	pstate, err := v.fd.GetOneReg(kvm.RegPState)
	return pstate&pstateMode != pstateEL0t, err
}

// KernelBase is SP_EL0, which in Linux' kernel mode is the address of the
// current task.
func (v *VCPU) KernelBase() (uint64, error) { return v.fd.GetOneReg(kvm.RegSPEL0) }

// SyscallEntry is the base of the vectors by which the guest's kernel is
// entered (VBAR_EL1), 0 while it has set none.
func (v *VCPU) SyscallEntry() (uint64, error) { return v.fd.GetOneReg(kvm.RegVBAREL1) }

// atHook has nothing to do: the vCPU stands at the BRK.
func (v *VCPU) atHook() error { return nil }

// passTrap steps over the BRK, which stands in place of a NOP.
func (v *VCPU) passTrap() error { return v.fd.SetOneReg(kvm.RegPC, v.PC()+4) }

// declineTrap gives the guest the exception of its BRK.
func (v *VCPU) declineTrap() error {
	return v.giveBack(classBRK<<classShift | lengthBit | trapImmediate)
}

// resumeTrap goes on elsewhere.
func (v *VCPU) resumeTrap(pc uint64) error { return v.fd.SetOneReg(kvm.RegPC, pc) }

// callTrap does what a BL in place of the hook would do. Where that calls the guest's
// tracer, X9 has the address that the function will return to, which may be another one since
// (arch/arm64/kernel/entry-ftrace.S); elsewhere no function has a claim on it at its start.
func (v *VCPU) callTrap(pc uint64) error {
	back, err := v.ReturnAddress()
	if err != nil {
		return err
	}
	if err := v.fd.SetOneReg(kvm.RegX(9), back); err != nil {
		return err
	}
	if err := v.fd.SetOneReg(kvm.RegX(30), v.PC()+4); err != nil {
		return err
	}
	return v.resumeTrap(pc)
}

// StackPointer is the stack's, of the kernel.
func (v *VCPU) StackPointer() (uint64, error) { return v.fd.GetOneReg(kvm.RegSPEL1) }

// ReturnAddress is where the function will return to at whose first instruction
// the vCPU stands.
func (v *VCPU) ReturnAddress() (uint64, error) { return v.fd.GetOneReg(kvm.RegX(30)) }

// SetReturnAddress has that function return elsewhere.
func (v *VCPU) SetReturnAddress(pc uint64) error { return v.fd.SetOneReg(kvm.RegX(30), pc) }

// Result is what a function returns that has just returned (AAPCS64, section
// 6.9).
func (v *VCPU) Result() (uint64, error) { return v.fd.GetOneReg(kvm.RegX(0)) }

// returnFromTrap does what the function's RET would do: before its prologue
// the return address is in the link register.
func (v *VCPU) returnFromTrap(value uint64) error {
	lr, err := v.fd.GetOneReg(kvm.RegX(30))
	if err != nil {
		return err
	}
	if err := v.fd.SetOneReg(kvm.RegX(0), value); err != nil {
		return err
	}
	return v.fd.SetOneReg(kvm.RegPC, lr)
}

// reported are the registers of a report besides X0 to X30.
var reported = []struct {
	name string
	id   kvm.Reg
}{
	{"sp", kvm.RegSPEL1}, {"pc", kvm.RegPC}, {"pstate", kvm.RegPState}, {"sp_el0", kvm.RegSPEL0},
	{"sctlr", kvm.RegSCTLREL1}, {"tcr", kvm.RegTCREL1}, {"ttbr0", kvm.RegTTBR0EL1}, {"ttbr1", kvm.RegTTBR1EL1},
	{"vbar", kvm.RegVBAREL1}, {"esr", kvm.RegESREL1}, {"far", kvm.RegFAREL1}, {"elr", kvm.RegELREL1},
}

func (v *VCPU) registers() ([]Register, error) {
	var regs []Register
	for i := range 31 {
		x, err := v.fd.GetOneReg(kvm.RegX(i))
		if err != nil {
			return nil, err
		}
		regs = append(regs, Register{fmt.Sprintf("x%d", i), x})
	}
	for _, r := range reported {
		x, err := v.fd.GetOneReg(r.id)
		if err != nil {
			return nil, err
		}
		regs = append(regs, Register{r.name, x})
	}
	return regs, nil
}

// instruction is the one at PC.
func (v *VCPU) instruction() (string, error) {
	s, err := v.AddressSpace()
	if err != nil {
		return "", err
	}
	pc := v.PC()
	code, err := codeAt(v.m.mem, s, pc, 4)
	if err != nil {
		return "", err
	}
	in, err := disasm.ARM64(code, pc)
	if err != nil {
		return fmt.Sprintf("% x", code), nil
	}
	return fmt.Sprintf("% x  %s", code[:in.Len], in.Text), nil
}
