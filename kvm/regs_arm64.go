package kvm

// The structures of arch/arm64/include/uapi/asm/kvm.h.

// VCPUInit is struct kvm_vcpu_init.
type VCPUInit struct {
	Target   uint32
	Features [7]uint32 // a bit set, see VCPUFeature
}

// VCPUFeature is a bit number in VCPUInit.Features.
type VCPUFeature uint

// The features (KVM_ARM_VCPU_*).
const (
	FeaturePowerOff       VCPUFeature = 0 // "CPU is started in OFF state"
	FeatureEL132Bit       VCPUFeature = 1 // "CPU running a 32bit VM"
	FeaturePSCI02         VCPUFeature = 2 // "CPU uses PSCI v0.2" or later
	FeaturePMUv3          VCPUFeature = 3 // CapARMPMUv3
	FeatureSVE            VCPUFeature = 4 // CapARMSVE; needs Finalize
	FeaturePtrAuthAddress VCPUFeature = 5 // CapARMPtrAuthAddress; both or none
	FeaturePtrAuthGeneric VCPUFeature = 6 // CapARMPtrAuthGeneric
)

// Set adds a feature.
func (i *VCPUInit) Set(f VCPUFeature) { i.Features[f/32] |= 1 << (f % 32) }

// VCPUEvents is struct kvm_vcpu_events.
type VCPUEvents struct {
	SErrorPending  uint8
	SErrorHasESR   uint8
	ExtDABTPending uint8 // set only: inject an external data abort (CapARMInjectExtDABT)
	_              [5]uint8
	SErrorESR      uint64
	_              [12]uint32
}

// Control bits of GuestDebug.
const (
	DebugEnable     = 1 << 0  // KVM_GUESTDBG_ENABLE: alone it traps each BRK already
	DebugSingleStep = 1 << 1  // KVM_GUESTDBG_SINGLESTEP
	DebugSoftware   = 1 << 16 // KVM_GUESTDBG_USE_SW_BP: BRK exits
	DebugHardware   = 1 << 17 // KVM_GUESTDBG_USE_HW: the debug registers are those below
)

// GuestDebug is struct kvm_guest_debug: breakpoint and watchpoint control and
// value registers, as many as CapGuestDebugHWBPs and CapGuestDebugHWWPs say.
type GuestDebug struct {
	Control            uint32
	_                  uint32
	BCR, BVR, WCR, WVR [16]uint64
}

// counterOffset is struct kvm_arm_counter_offset.
type counterOffset struct{ offset, _ uint64 }

// SMCCCAction is what KVM does with a range of SMCCC calls.
type SMCCCAction uint8

// The actions (KVM_SMCCC_FILTER_*).
const (
	SMCCCHandle        SMCCCAction = 0 // in the kernel, the default
	SMCCCDeny          SMCCCAction = 1 // the guest gets "not supported"
	SMCCCForwardToUser SMCCCAction = 2 // ExitHypercall
)

// SMCCCFilter is a range of function ids, from Base on, and what happens to it.
type SMCCCFilter struct {
	Base, Count uint32
	Action      SMCCCAction
}

// smcccFilter is struct kvm_smccc_filter.
type smcccFilter struct {
	base, n uint32
	action  uint8
	_       [15]uint8
}
