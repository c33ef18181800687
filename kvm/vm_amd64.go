package kvm

// SetTSSAddr is KVM_SET_TSS_ADDR (CapSetTSSAddr): "This ioctl defines the
// physical address of a three-page region in the guest physical address space.
// The region must be within the first 4GB of the guest physical address space
// and must not conflict with any memory slot or any mmio address. [...] This
// ioctl is required on Intel-based hosts."
func (vm *VM) SetTSSAddr(addr uint32) error {
	_, err := reqSetTSSAddr.call(vm.fd, uintptr(addr))
	return err
}

// SetIdentityMapAddr is KVM_SET_IDENTITY_MAP_ADDR (CapSetIdentityMapAddr): "the
// physical address of a one-page region in the guest physical address space",
// with the same limits as SetTSSAddr. "Fails if any VCPU has already been
// created."
func (vm *VM) SetIdentityMapAddr(addr uint64) error {
	_, err := do(vm.fd, reqSetIdentityMapAddr, &addr)
	return err
}

// CreateIRQChip is KVM_CREATE_IRQCHIP (CapIRQChip): "Creates an interrupt
// controller model in the kernel. On x86, creates a virtual ioapic, a virtual
// PIC (two PICs, nested), and sets up future vcpus to have a local APIC. IRQ
// routing for GSIs 0-15 is set to both PIC and IOAPIC; GSI 16-23 only go to the
// IOAPIC." With it HLT no longer exits.
func (vm *VM) CreateIRQChip() error {
	_, err := reqCreateIRQChip.call(vm.fd, 0)
	return err
}

// GetIRQChip is KVM_GET_IRQCHIP: "Reads the state of a kernel interrupt
// controller created with KVM_CREATE_IRQCHIP".
func (vm *VM) GetIRQChip(id uint32) (*IRQChip, error) {
	c := &IRQChip{ID: id}
	_, err := do(vm.fd, reqGetIRQChip, c)
	return c, err
}

// SetIRQChip is KVM_SET_IRQCHIP.
func (vm *VM) SetIRQChip(c *IRQChip) error {
	_, err := do(vm.fd, reqSetIRQChip, c)
	return err
}

// PITSpeakerDummy is KVM_PIT_SPEAKER_DUMMY: the PIT also answers port 0x61.
const PITSpeakerDummy = 1

// CreatePIT2 is KVM_CREATE_PIT2 (CapPIT2): "Creates an in-kernel device model
// for the i8254 PIT. This call is only valid after enabling in-kernel irqchip
// support via KVM_CREATE_IRQCHIP."
func (vm *VM) CreatePIT2(flags uint32) error {
	_, err := do(vm.fd, reqCreatePIT2, &pitConfig{flags: flags})
	return err
}

// GetPIT2 is KVM_GET_PIT2 (CapPITState2).
func (vm *VM) GetPIT2() (p PIT2, err error) {
	_, err = do(vm.fd, reqGetPIT2, &p)
	return p, err
}

// SetPIT2 is KVM_SET_PIT2.
func (vm *VM) SetPIT2(p *PIT2) error {
	_, err := do(vm.fd, reqSetPIT2, p)
	return err
}

// GetClock is KVM_GET_CLOCK (CapAdjustClock): "Gets the current timestamp of
// kvmclock as seen by the current guest."
func (vm *VM) GetClock() (c Clock, err error) {
	_, err = do(vm.fd, reqGetClock, &c)
	return c, err
}

// SetClock is KVM_SET_CLOCK: "Sets the current timestamp of kvmclock to the
// value specified in its parameter. In conjunction with KVM_GET_CLOCK, it is
// used to ensure monotonicity on scenarios such as migration."
func (vm *VM) SetClock(c *Clock) error {
	_, err := do(vm.fd, reqSetClock, c)
	return err
}
