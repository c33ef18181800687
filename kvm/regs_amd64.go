package kvm

// The register structures of arch/x86/include/uapi/asm/kvm.h.

// Regs is struct kvm_regs: the general-purpose registers.
type Regs struct {
	RAX, RBX, RCX, RDX uint64
	RSI, RDI, RSP, RBP uint64
	R8, R9, R10, R11   uint64
	R12, R13, R14, R15 uint64
	RIP, RFLAGS        uint64
}

// Segment is struct kvm_segment: a segment register with its hidden part.
type Segment struct {
	Base     uint64
	Limit    uint32 // in bytes
	Selector uint16
	Type     uint8
	Present  uint8
	DPL      uint8
	DB       uint8
	S        uint8
	L        uint8
	G        uint8
	AVL      uint8
	Unusable uint8
	_        uint8
}

// DescriptorTable is struct kvm_dtable: GDTR or IDTR.
type DescriptorTable struct {
	Base  uint64
	Limit uint16
	_     [3]uint16
}

// Sregs is struct kvm_sregs: the special registers.
type Sregs struct {
	CS, DS, ES, FS, GS, SS  Segment
	TR, LDT                 Segment
	GDT, IDT                DescriptorTable
	CR0, CR2, CR3, CR4, CR8 uint64
	EFER                    uint64
	APICBase                uint64
	InterruptBitmap         [4]uint64 // "pending external interrupts. At most one bit may be set."
}

// FPU is struct kvm_fpu: the x87 and SSE registers. KVM leaves MXCSR alone, both
// ways: XSAVE has it.
type FPU struct {
	FPR        [8][16]uint8
	FCW, FSW   uint16
	FTWX       uint8 // in FXSAVE format
	_          uint8
	LastOpcode uint16
	LastIP     uint64
	LastDP     uint64
	XMM        [16][16]uint8
	MXCSR      uint32
	_          uint32
}

// MSREntry is struct kvm_msr_entry.
type MSREntry struct {
	Index uint32
	_     uint32
	Data  uint64
}

// CPUIDEntry is struct kvm_cpuid_entry2: what CPUID tells the guest for one
// function (EAX) and index (ECX, where CPUIDSignificantIndex is set).
type CPUIDEntry struct {
	Function, Index, Flags uint32
	EAX, EBX, ECX, EDX     uint32
	_                      [3]uint32
}

// CPUIDSignificantIndex is KVM_CPUID_FLAG_SIGNIFCANT_INDEX: "if the index field
// is valid".
const CPUIDSignificantIndex = 1 << 0

// LAPIC is struct kvm_lapic_state: the registers of the local APIC, at the
// offsets that the processor's manual gives.
type LAPIC struct{ Regs [1024]uint8 }

// DebugRegs is struct kvm_debugregs.
type DebugRegs struct {
	DB       [4]uint64
	DR6, DR7 uint64
	Flags    uint64
	_        [9]uint64
}

// XSAVE is struct kvm_xsave: the XSAVE area, in the layout of CPUID leaf 0xD of
// the host. Enough while no dynamic feature (AMX) is enabled for the process.
type XSAVE struct{ Region [1024]uint32 }

// XCR is struct kvm_xcr: one extended control register.
type XCR struct {
	Index uint32
	_     uint32
	Value uint64
}

// XCRS is struct kvm_xcrs.
type XCRS struct {
	N     uint32 // number of valid XCRs
	Flags uint32
	XCRs  [16]XCR
	_     [16]uint64
}

// Flags of VCPUEvents: which fields KVM_SET_VCPU_EVENTS takes over.
const (
	EventsNMIPending  = 1 << 0
	EventsSIPIVector  = 1 << 1
	EventsShadow      = 1 << 2
	EventsSMM         = 1 << 3
	EventsPayload     = 1 << 4
	EventsTripleFault = 1 << 5
)

// VCPUEvents is struct kvm_vcpu_events.
type VCPUEvents struct {
	Exception struct {
		Injected, Nr, HasErrorCode, Pending uint8
		ErrorCode                           uint32
	}
	Interrupt struct{ Injected, Nr, Soft, Shadow uint8 }
	NMI       struct {
		Injected, Pending, Masked uint8
		_                         uint8
	}
	SIPIVector          uint32
	Flags               uint32
	SMI                 struct{ SMM, Pending, InsideNMI, LatchedInit uint8 }
	TripleFaultPending  uint8
	_                   [26]uint8
	ExceptionHasPayload uint8
	ExceptionPayload    uint64
}

// Control bits of GuestDebug.
const (
	DebugEnable     = 1 << 0  // KVM_GUESTDBG_ENABLE
	DebugSingleStep = 1 << 1  // KVM_GUESTDBG_SINGLESTEP
	DebugSoftware   = 1 << 16 // KVM_GUESTDBG_USE_SW_BP: INT3 exits
	DebugHardware   = 1 << 17 // KVM_GUESTDBG_USE_HW_BP: the debug registers are DebugReg
	DebugInjectDB   = 1 << 18 // KVM_GUESTDBG_INJECT_DB: once
	DebugInjectBP   = 1 << 19 // KVM_GUESTDBG_INJECT_BP: once
	DebugBlockIRQ   = 1 << 20 // KVM_GUESTDBG_BLOCKIRQ: no interrupts while single-stepping
)

// GuestDebug is struct kvm_guest_debug.
type GuestDebug struct {
	Control  uint32
	_        uint32
	DebugReg [8]uint64 // DR0 to DR7
}

// Classes of registers that are shared through the run page (KVM_SYNC_X86_*).
const (
	SyncX86Regs   = 1 << 0
	SyncX86Sregs  = 1 << 1
	SyncX86Events = 1 << 2
)

// SyncRegs is struct kvm_sync_regs: registers in the run page.
type SyncRegs struct {
	Regs   Regs
	Sregs  Sregs
	Events VCPUEvents
}

// IRQChip is struct kvm_irqchip: the state of one in-kernel interrupt controller
// (ChipPICMaster, ChipPICSlave, ChipIOAPIC). State is a union by ID.
type IRQChip struct {
	ID    uint32
	_     uint32
	State [512]uint8
}

// PITChannel is struct kvm_pit_channel_state.
type PITChannel struct {
	Count                       uint32 // "can be 65536"
	LatchedCount                uint16
	CountLatched, StatusLatched uint8
	Status, ReadState           uint8
	WriteState, WriteLatch      uint8
	RWMode, Mode                uint8
	BCD, Gate                   uint8
	CountLoadTime               int64
}

// PIT2 is struct kvm_pit_state2.
type PIT2 struct {
	Channels [3]PITChannel
	Flags    uint32
	_        [9]uint32
}

// pitConfig is struct kvm_pit_config.
type pitConfig struct {
	flags uint32
	_     [15]uint32
}

// Flags of Clock.
const (
	ClockTSCStable = 1 << 1 // KVM_CLOCK_TSC_STABLE
	ClockRealtime  = 1 << 2 // KVM_CLOCK_REALTIME: Realtime is valid, or to be used
	ClockHostTSC   = 1 << 3 // KVM_CLOCK_HOST_TSC: HostTSC is valid
)

// Clock is struct kvm_clock_data: the guest's kvmclock, in nanoseconds.
type Clock struct {
	Clock    uint64
	Flags    uint32
	_        uint32
	Realtime uint64
	HostTSC  uint64
	_        [4]uint32
}

// translation is struct kvm_translation.
type translation struct {
	linear, physical uint64
	valid            uint8
	_                [7]uint8 // "writeable" is always 1 and "usermode" 0
}
