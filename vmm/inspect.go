package vmm

import (
	"fmt"

	"warder/devices/guestmem"
	"warder/vmm/pagetable"
)

// addressSpace is what was made of a vCPU's registers last: they are mostly the same
// when they are asked for again, and a space is on the heap.
type addressSpace struct {
	registers pagingRegisters
	space     pagetable.Space
}

// spaceOf makes an address space. Who has stopped the machine may ask while
// the vCPU itself does.
func (v *VCPU) spaceOf(r pagingRegisters) pagetable.Space {
	last := v.space.Load()
	if last == nil || last.registers != r {
		last = &addressSpace{r, r.Space()}
		v.space.Store(last)
	}
	return last.space
}

// ReadVirtual fills p from the guest's virtual address va as v translates it.
// Errors are of type *pagetable.FaultError where the guest maps nothing there.
func (v *VCPU) ReadVirtual(va uint64, p []byte) error {
	s, err := v.AddressSpace()
	if err != nil {
		return err
	}
	return s.Read(v.m.mem, va, p)
}

// WriteVirtual copies p to the guest's virtual address va, whatever the
// protection of its pages. The caller sees to it that no vCPU runs the code
// that it changes: see [Machine.WithVCPUsStopped].
func (v *VCPU) WriteVirtual(va uint64, p []byte) error {
	s, err := v.AddressSpace()
	if err != nil {
		return err
	}
	return s.Write(patched{v.m.mem, v.m.patches}, va, p)
}

// patched is guest memory whose pages are kept once the host has written to
// them: what is put into the guest's code is not to vanish by the guest's word
// that the page is free.
type patched struct {
	*guestmem.Memory
	kept *guestmem.Kept
}

// WriteAt implements pagetable.Memory.
func (m patched) WriteAt(p []byte, a guestmem.Addr) error {
	if err := m.kept.Add(a, uint64(len(p))); err != nil {
		return err
	}
	return m.Memory.WriteAt(p, a)
}

// CPUs is how many vCPUs the machine has, on line or not.
func (m *Machine) CPUs() int { return len(m.vcpus) }

// VCPU is vCPU id of the machine, nil if it has none of that number.
func (m *Machine) VCPU(id int) *VCPU {
	if id < 0 || id >= len(m.vcpus) {
		return nil
	}
	return m.vcpus[id]
}

// Register is the register of that name, as [Report] spells it.
func (v *VCPU) Register(name string) (uint64, error) {
	regs, err := v.registers()
	if err != nil {
		return 0, err
	}
	for _, r := range regs {
		if r.Name == name {
			return r.Value, nil
		}
	}
	return 0, fmt.Errorf("vmm: no register %q", name)
}

// Report is what is known of v; what can't be read any more is left out.
func (v *VCPU) Report() *Report {
	r := &Report{VCPU: v.id}
	r.Registers, _ = v.registers()
	if in, err := v.instruction(); err == nil {
		r.Instruction = in
	}
	return r
}

// codeAt reads up to n bytes of code at pc, fewer where a page ends and the
// next is not mapped.
func codeAt(mem *guestmem.Memory, s pagetable.Space, pc uint64, n int) ([]byte, error) {
	for ; n > 0; n-- {
		code := make([]byte, n)
		if err := s.Read(mem, pc, code); err == nil {
			return code, nil
		}
	}
	return nil, fmt.Errorf("no code is mapped at %#x", pc)
}
