package vmm

import (
	"encoding/binary"
	"errors"
	"fmt"

	"warder/kvm"
	"warder/vmm/disasm"
	"warder/vmm/pagetable"
)

// regs are the general registers as of the latest exit: KVM leaves them in
// the run page at each, so reading them costs nothing.
func (v *VCPU) regs() *kvm.Regs { return &v.fd.SyncRegs().Regs }

// setRegs makes KVM take over what has been written to regs.
func (v *VCPU) setRegs() { v.fd.SetDirtyRegs(kvm.SyncX86Regs) }

// sregs are the special registers as of the latest exit. The caller does not
// change what it gets.
func (v *VCPU) sregs() (*kvm.Sregs, error) {
	if v.fd.ValidRegs()&kvm.SyncX86Sregs != 0 {
		return &v.fd.SyncRegs().Sregs, nil
	}
	s, err := v.fd.GetSregs()
	return &s, err
}

// setSregs sets the special registers, and what sregs gives.
func (v *VCPU) setSregs(s *kvm.Sregs) error {
	if err := v.fd.SetSregs(s); err != nil {
		return err
	}
	if v.fd.ValidRegs()&kvm.SyncX86Sregs != 0 {
		v.fd.SyncRegs().Sregs = *s
	}
	return nil
}

// keepSregs has KVM leave the special registers in the run page at each exit,
// too, or not any more. A hook asks for them several times, each a system call
// otherwise; other exits do not ask, and there are few of them.
func (v *VCPU) keepSregs(keep bool) error {
	switch now := v.fd.ValidRegs()&kvm.SyncX86Sregs != 0; {
	case keep && !now:
		s, err := v.fd.GetSregs()
		if err != nil {
			return err
		}
		v.fd.SyncRegs().Sregs = s // until the next exit
		v.fd.SetValidRegs(kvm.SyncX86Regs | kvm.SyncX86Sregs)
	case !keep && now:
		v.fd.SetValidRegs(kvm.SyncX86Regs)
	}
	return nil
}

// PC is the address of the instruction the vCPU stands at.
func (v *VCPU) PC() uint64 { return v.regs().RIP }

// Arg is argument n, from 0, of the function at whose first instruction the
// vCPU stands (System V ABI, AMD64 supplement, section 3.2.3). Beyond the six
// that travel in registers it is 0.
func (v *VCPU) Arg(n int) uint64 {
	r := v.regs()
	switch n {
	case 0:
		return r.RDI
	case 1:
		return r.RSI
	case 2:
		return r.RDX
	case 3:
		return r.RCX
	case 4:
		return r.R8
	case 5:
		return r.R9
	}
	return 0
}

// pagingRegisters are those that an address space is made of.
type pagingRegisters = pagetable.AMD64

// AddressSpace is how the vCPU translates virtual addresses now.
func (v *VCPU) AddressSpace() (pagetable.Space, error) {
	s, err := v.sregs()
	if err != nil {
		return pagetable.Space{}, err
	}
	return v.spaceOf(paging(s)), nil
}

// KernelSpace is [VCPU.AddressSpace], at a hook: one table is for all addresses, and
// asking costs nothing there.
func (v *VCPU) KernelSpace(bool) (pagetable.Space, error) { return v.AddressSpace() }

// WholeSpace is [VCPU.AddressSpace]: see KernelSpace.
func (v *VCPU) WholeSpace() (pagetable.Space, error) { return v.AddressSpace() }

func paging(s *kvm.Sregs) pagingRegisters {
	return pagingRegisters{CR0: s.CR0, CR3: s.CR3, CR4: s.CR4, EFER: s.EFER}
}

// InKernel says whether the vCPU runs the guest's kernel, and not a program.
func (v *VCPU) InKernel() (bool, error) {
	s, err := v.sregs()
	return s.SS.DPL == 0, err
}

// KernelBase is the base of GS, which in Linux' kernel mode is the address of
// the CPU's own variables.
func (v *VCPU) KernelBase() (uint64, error) {
	s, err := v.sregs()
	return s.GS.Base, err
}

// SyscallEntry is the address at which the guest's kernel is entered by
// SYSCALL (MSR LSTAR), 0 while it has set none.
func (v *VCPU) SyscallEntry() (uint64, error) {
	const lstar = 0xc000_0082
	e := []kvm.MSREntry{{Index: lstar}}
	n, err := v.fd.GetMSRs(e)
	if err == nil && n != 1 {
		err = errors.New("this vCPU has none")
	}
	if err != nil {
		return 0, fmt.Errorf("vmm: MSR LSTAR: %w", err)
	}
	return e[0].Data, nil
}

// A hook is these two bytes, out %al, $trapPort, at the start of five that
// were a NOP.
var hookOut = [2]byte{0xe6, trapPort}

const hookLength = 5

// atHook moves RIP back to the start of the hook if KVM has left it behind the
// OUT: KVM on hardware leaves it at the OUT, one that emulates the guest's
// kernel mode leaves it behind. Each hit is looked at, for what a guest writes to
// the port of its own accord must not decide for others.
func (v *VCPU) atHook() error {
	isHook := func(at uint64) bool {
		code := v.word[:len(hookOut)]
		return v.ReadVirtual(at, code) == nil && [2]byte(code) == hookOut
	}
	r := v.regs()
	if behind := r.RIP - uint64(len(hookOut)); !isHook(r.RIP) && isHook(behind) {
		r.RIP = behind
	}
	return nil
}

// passTrap goes to the end of the hook at once. Were the OUT left to KVM, the
// vCPU could be interrupted behind it and the task put aside with an address
// inside the hook; taking the hook off would then have it resume in the middle
// of the NOP.
func (v *VCPU) passTrap() error {
	v.regs().RIP += hookLength
	v.setRegs()
	return nil
}

// declineTrap has nothing to do: KVM completes the OUT, and what has been written
// to the registers counts for nothing without setRegs.
func (v *VCPU) declineTrap() error { return nil }

// resumeTrap goes on elsewhere.
func (v *VCPU) resumeTrap(pc uint64) error {
	v.regs().RIP = pc
	v.setRegs()
	return nil
}

// callTrap does what a CALL in place of the hook would do.
func (v *VCPU) callTrap(pc uint64) error {
	r := v.regs()
	r.RSP -= 8
	if err := v.SetReturnAddress(r.RIP + hookLength); err != nil {
		return err
	}
	return v.resumeTrap(pc)
}

// StackPointer is the address of what was pushed last.
func (v *VCPU) StackPointer() (uint64, error) { return v.regs().RSP, nil }

// ReturnAddress is where the function will return to at whose first instruction
// the vCPU stands.
func (v *VCPU) ReturnAddress() (uint64, error) {
	err := v.ReadVirtual(v.regs().RSP, v.word[:])
	return binary.LittleEndian.Uint64(v.word[:]), err
}

// SetReturnAddress has that function return elsewhere.
func (v *VCPU) SetReturnAddress(pc uint64) error {
	s, err := v.AddressSpace()
	if err != nil {
		return err
	}
	binary.LittleEndian.PutUint64(v.word[:], pc)
	return s.Write(v.m.mem, v.regs().RSP, v.word[:])
}

// Result is what a function returns that has just returned (System V ABI, AMD64
// supplement, section 3.2.3).
func (v *VCPU) Result() (uint64, error) { return v.regs().RAX, nil }

// returnFromTrap does what the function's RET would do.
func (v *VCPU) returnFromTrap(value uint64) error {
	r := v.regs()
	var ret [8]byte
	if err := v.ReadVirtual(r.RSP, ret[:]); err != nil {
		return fmt.Errorf("return address: %w", err)
	}
	r.RAX = value
	r.RIP = binary.LittleEndian.Uint64(ret[:])
	r.RSP += 8
	// KVM takes these over before it completes the OUT, and then sees that RIP
	// is no longer at it.
	v.setRegs()
	return nil
}

func (v *VCPU) registers() ([]Register, error) {
	s, err := v.sregs()
	if err != nil {
		return nil, err
	}
	r := v.regs()
	return []Register{
		{"rax", r.RAX}, {"rbx", r.RBX}, {"rcx", r.RCX}, {"rdx", r.RDX},
		{"rsi", r.RSI}, {"rdi", r.RDI}, {"rsp", r.RSP}, {"rbp", r.RBP},
		{"r8", r.R8}, {"r9", r.R9}, {"r10", r.R10}, {"r11", r.R11},
		{"r12", r.R12}, {"r13", r.R13}, {"r14", r.R14}, {"r15", r.R15},
		{"rip", r.RIP}, {"rflags", r.RFLAGS}, {"cs", uint64(s.CS.Selector)}, {"ss", uint64(s.SS.Selector)},
		{"cr0", s.CR0}, {"cr2", s.CR2}, {"cr3", s.CR3}, {"cr4", s.CR4},
		{"efer", s.EFER}, {"gsbase", s.GS.Base}, {"fsbase", s.FS.Base}, {"idt", s.IDT.Base},
	}, nil
}

// instruction is the one at RIP.
func (v *VCPU) instruction() (string, error) {
	s, err := v.sregs()
	if err != nil {
		return "", err
	}
	mode := 16
	switch {
	case s.CS.L != 0:
		mode = 64
	case s.CS.DB != 0:
		mode = 32
	}
	pc := v.regs().RIP
	if mode != 64 {
		pc += s.CS.Base
	}
	code, err := codeAt(v.m.mem, paging(s).Space(), pc, disasm.MaxLen)
	if err != nil {
		return "", err
	}
	in, err := disasm.AMD64(code, pc, mode)
	if err != nil {
		return fmt.Sprintf("% x", code), nil
	}
	return fmt.Sprintf("% x  %s", code[:in.Len], in.Text), nil
}
