package kvm

// PreferredTarget is KVM_ARM_PREFERRED_TARGET: "This queries KVM for preferred
// CPU target type which can be emulated by KVM on underlying host."
func (vm *VM) PreferredTarget() (i VCPUInit, err error) {
	_, err = do(vm.fd, reqPreferredTarget, &i)
	return i, err
}

// Attributes of the VM: the group and number of the SMCCC filter.
const (
	groupSMCCC = 0 // KVM_ARM_VM_SMCCC_CTRL
	attrFilter = 0 // KVM_ARM_VM_SMCCC_FILTER
)

// HasSMCCCFilter says whether SetSMCCCFilter is there: Linux 6.4.
func (vm *VM) HasSMCCCFilter() bool { return vm.HasAttr(groupSMCCC, attrFilter) }

// SetSMCCCFilter is the VM attribute KVM_ARM_VM_SMCCC_FILTER: "Requests the
// installation of an SMCCC call filter". It may be called for several ranges.
// "EEXIST: Range intersects with a previously inserted or reserved range.
// EBUSY: A vCPU in the VM has already run." The Arm architecture calls
// 0x80000000-0x8000ffff and 0xc0000000-0xc000ffff are reserved.
func (vm *VM) SetSMCCCFilter(f SMCCCFilter) error {
	return setAttr(vm.attributes, groupSMCCC, attrFilter, &smcccFilter{base: f.Base, n: f.Count, action: uint8(f.Action)})
}

// SetCounterOffset is KVM_ARM_SET_COUNTER_OFFSET (CapCounterOffset): "This
// capability indicates that userspace is able to apply a single VM-wide offset
// to both the virtual and physical counters as viewed by the guest".
func (vm *VM) SetCounterOffset(offset uint64) error {
	_, err := do(vm.fd, reqSetCounterOffset, &counterOffset{offset: offset})
	return err
}

// SPI is the irq of VM.IRQLine for a shared peripheral interrupt of the GIC in
// the kernel; id counts from 32: "irq_type[1]: in-kernel GIC: SPI, irq_id
// between 32 and 1019 (incl.)".
func SPI(id uint32) uint32 { return 1<<24 | id }

// Groups and attributes of the GIC devices (Documentation/virt/kvm/devices,
// arm-vgic-v3 and arm-vgic).
const (
	VGICGroupAddr   = 0 // KVM_DEV_ARM_VGIC_GRP_ADDR
	VGICGroupNRIRQs = 3 // KVM_DEV_ARM_VGIC_GRP_NR_IRQS: 32 bits, "the number of interrupts", SGIs and PPIs included
	VGICGroupCtrl   = 4 // KVM_DEV_ARM_VGIC_GRP_CTRL

	VGICv2AddrDist         = 0 // KVM_VGIC_V2_ADDR_TYPE_DIST, 4 KiB
	VGICv2AddrCPU          = 1 // KVM_VGIC_V2_ADDR_TYPE_CPU, 8 KiB
	VGICv3AddrDist         = 2 // KVM_VGIC_V3_ADDR_TYPE_DIST, 64 KiB
	VGICv3AddrRedist       = 3 // KVM_VGIC_V3_ADDR_TYPE_REDIST, 128 KiB for each vCPU
	VGICv3AddrRedistRegion = 5 // KVM_VGIC_V3_ADDR_TYPE_REDIST_REGION

	VGICCtrlInit = 0 // KVM_DEV_ARM_VGIC_CTRL_INIT: "request the initialization of the VGIC"
)

// Groups and attributes of a vCPU (Documentation/virt/kvm/devices/vcpu.rst).
const (
	VCPUGroupPMUv3 = 0 // KVM_ARM_VCPU_PMU_V3_CTRL
	VCPUPMUv3IRQ   = 0 // 32 bits: the PPI or SPI of the overflow interrupt
	VCPUPMUv3Init  = 1 // after the interrupt controller

	VCPUGroupTimer     = 1 // KVM_ARM_VCPU_TIMER_CTRL
	VCPUTimerIRQVTimer = 0 // 32 bits: a PPI
	VCPUTimerIRQPTimer = 1

	VCPUGroupPVTime = 2 // KVM_ARM_VCPU_PVTIME_CTRL
	VCPUPVTimeIPA   = 0 // 64 bits: where the stolen-time structure is
)
