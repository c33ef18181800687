package kvm

import "encoding/binary"

// Exit is why KVM_RUN returned: Reason, and for most reasons the result of the
// method of the same name. A method called for another reason returns zeros.
//
// The values were copied from the run page once, when the exit was decoded. The
// byte slices of IO and MMIO are the exception: they are the run page itself,
// since that is where an answer goes.
type Exit struct {
	Reason ExitReason
	Flags  uint16 // kvm_run.flags, architecture specific

	raw   [exitSize]byte // the union of struct kvm_run, copied
	data  []byte         // in the run page: of IO and MMIO, checked
	words [exitSize / 8]uint64
}

// Offsets in the shared region (struct kvm_run), held against runPage by
// layout_unsafe.go.
const (
	offExitReason = 8
	offFlags      = 14
	offUnion      = 32
)

// decode fills e from the shared region, which is longer than struct kvm_run.
func (e *Exit) decode(region []byte) {
	e.Reason = ExitReason(binary.LittleEndian.Uint32(region[offExitReason:]))
	e.Flags = binary.LittleEndian.Uint16(region[offFlags:])
	e.data = nil
	copy(e.raw[:], region[offUnion:])
	switch e.Reason {
	case ExitIO:
		size, count, off := uint64(e.raw[1]), uint64(e.u32(4)), e.u64(8)
		n := size * count // 8 by 32 bits
		if off > uint64(len(region)) || n > uint64(len(region))-off || (size != 1 && size != 2 && size != 4) {
			e.Reason = ExitMalformed
			return
		}
		e.data = region[off : off+n : off+n]
	case ExitMMIO:
		n := e.u32(16)
		if n > 8 {
			e.Reason = ExitMalformed
			return
		}
		e.data = region[offUnion+8 : offUnion+8+n : offUnion+8+n]
	}
}

func (e *Exit) u32(off int) uint32 { return binary.LittleEndian.Uint32(e.raw[off:]) }
func (e *Exit) u64(off int) uint64 { return binary.LittleEndian.Uint64(e.raw[off:]) }

// u64s decodes n words, but no more than limit (what the ABI has room for), into
// memory that the Exit owns.
func (e *Exit) u64s(off int, n uint32, limit int) []uint64 {
	w := e.words[:min(uint64(n), uint64(limit))]
	for i := range w {
		w[i] = e.u64(off + 8*i)
	}
	return w
}

// Directions of IO.
const (
	IOIn  = 0
	IOOut = 1
)

// IO is a port access of x86 (ExitIO): Count accesses of Size bytes each, one
// after the other, at one port.
type IO struct {
	Direction uint8 // IOIn or IOOut
	Size      int   // bytes of one access: 1, 2 or 4
	Port      uint16
	Count     int
	// Data, of Size*Count bytes, is what was written, or is to be filled.
	Data []byte
}

// IO is valid for ExitIO.
func (e *Exit) IO() IO {
	if e.Reason != ExitIO {
		return IO{}
	}
	return IO{
		Direction: e.raw[0], Size: int(e.raw[1]), Port: binary.LittleEndian.Uint16(e.raw[2:]),
		Count: int(e.u32(4)), Data: e.data,
	}
}

// MMIO is an access to guest-physical memory where no slot is, or a write to a
// read-only one.
type MMIO struct {
	Addr    uint64
	Data    []byte // of the access's length, at most 8: what was written, or is to be filled
	Len     int
	IsWrite bool
}

// MMIO is valid for ExitMMIO.
func (e *Exit) MMIO() MMIO {
	if e.Reason != ExitMMIO {
		return MMIO{}
	}
	return MMIO{Addr: e.u64(0), Data: e.data, Len: len(e.data), IsWrite: e.raw[20] != 0}
}

// Hypercall is a call of the guest that user space asked for: on x86 by
// CapExitHypercall, on arm64 through the SMCCC filter, where Nr and Flags are
// all that is set and arguments and results are in registers.
type Hypercall struct {
	Nr    uint64
	Args  [6]uint64
	Flags uint64 // x86: bit 0 long mode. arm64: HypercallSMC, HypercallAArch32
}

// Flags of Hypercall on arm64.
const (
	HypercallSMC     = 1 << 0 // KVM_HYPERCALL_EXIT_SMC: SMC and not HVC
	HypercallAArch32 = 1 << 1 // KVM_HYPERCALL_EXIT_16BIT: a 16-bit instruction
)

// Hypercall is valid for ExitHypercall. VCPU.SetHypercallResult answers it on x86.
func (e *Exit) Hypercall() (h Hypercall) {
	if e.Reason != ExitHypercall {
		return h
	}
	h.Nr, h.Flags = e.u64(0), e.u64(64)
	for i := range h.Args {
		h.Args[i] = e.u64(8 + 8*i)
	}
	return h
}

// Reasons of MSR.
const (
	MSRReasonInvalid = 1 << 0 // KVM_MSR_EXIT_REASON_INVAL: "access to invalid MSRs or reserved bits"
	MSRReasonUnknown = 1 << 1 // KVM_MSR_EXIT_REASON_UNKNOWN: "access to MSRs unknown to KVM"
	MSRReasonFilter  = 1 << 2 // KVM_MSR_EXIT_REASON_FILTER: "access blocked by KVM_X86_SET_MSR_FILTER"
)

// MSR is an access to a model-specific register that user space asked for
// (CapX86UserSpaceMSR).
type MSR struct {
	Reason uint32 // MSRReasonInvalid, MSRReasonUnknown or MSRReasonFilter
	Index  uint32
	Data   uint64 // what is written, for ExitX86WRMSR
}

// MSR is valid for ExitX86RDMSR and ExitX86WRMSR. VCPU.SetMSRResult answers it.
func (e *Exit) MSR() MSR {
	if e.Reason != ExitX86RDMSR && e.Reason != ExitX86WRMSR {
		return MSR{}
	}
	return MSR{Reason: e.u32(8), Index: e.u32(12), Data: e.u64(16)}
}

// InternalError is KVM's own failure. Suberror 1 is an instruction that it could
// not emulate.
type InternalError struct {
	Suberror uint32
	Data     []uint64 // at most 16 words, unspecified in meaning
	// Instruction is the bytes of the instruction that failed, at most 15, where
	// KVM gives them: suberror 1 with CapExitOnEmulationFailure.
	Instruction []byte
}

// Suberrors of InternalError (KVM_INTERNAL_ERROR_*).
const (
	InternalErrorEmulation            = 1 // "Emulate instruction failed."
	InternalErrorSimultaneous         = 2 // "Encounter unexpected simultaneous exceptions."
	InternalErrorDelivery             = 3 // "Encounter unexpected vm-exit due to delivery event."
	InternalErrorUnexpectedExitReason = 4 // "Encounter unexpected vm-exit reason"
)

// InternalError is valid for ExitInternalError.
func (e *Exit) InternalError() (i InternalError) {
	if e.Reason != ExitInternalError {
		return i
	}
	i = InternalError{Suberror: e.u32(0), Data: e.u64s(8, e.u32(4), 16)}
	const flagInstructionBytes = 1 << 0
	if i.Suberror == InternalErrorEmulation && len(i.Data) >= 3 && i.Data[0]&flagInstructionBytes != 0 {
		i.Instruction = e.raw[17 : 17+min(e.raw[16], 15)]
	}
	return i
}

// SystemEventType is kvm_run.system_event.type.
type SystemEventType uint32

// The system events.
const (
	SystemEventShutdown SystemEventType = 1
	SystemEventReset    SystemEventType = 2
	SystemEventCrash    SystemEventType = 3
	SystemEventWakeup   SystemEventType = 4
	SystemEventSuspend  SystemEventType = 5
	SystemEventSEVTerm  SystemEventType = 6
)

var systemEventNames = [...]string{
	SystemEventShutdown: "shutdown", SystemEventReset: "reset", SystemEventCrash: "crash",
	SystemEventWakeup: "wakeup", SystemEventSuspend: "suspend", SystemEventSEVTerm: "sev-term",
}

func (t SystemEventType) String() string {
	if t > 0 && int(t) < len(systemEventNames) {
		return systemEventNames[t]
	}
	return "system-event"
}

// SystemEvent is a "system-level event [...] that requires user space
// attention": on arm64 what the guest asked of PSCI.
type SystemEvent struct {
	Type SystemEventType
	Data []uint64 // at most 16 words (CapSystemEventData); arm64 reset: bit 0 of the first is PSCI_SYSTEM_RESET2
}

// SystemEvent is valid for ExitSystemEvent.
func (e *Exit) SystemEvent() SystemEvent {
	if e.Reason != ExitSystemEvent {
		return SystemEvent{}
	}
	return SystemEvent{Type: SystemEventType(e.u32(0)), Data: e.u64s(8, e.u32(4), 16)}
}

// FailEntry is a vCPU that "could not be run due to unknown reasons".
type FailEntry struct {
	HardwareReason uint64 // of the processor (VMX, SVM), or arm64: 1 is a host CPU that cannot run this guest
	CPU            uint32 // of the host
}

// FailEntry is valid for ExitFailEntry.
func (e *Exit) FailEntry() FailEntry {
	if e.Reason != ExitFailEntry {
		return FailEntry{}
	}
	return FailEntry{HardwareReason: e.u64(0), CPU: e.u32(8)}
}

// ArmNISV is an access outside memory slots for which the processor gave "no
// valid instruction syndrome" (CapARMNISVToUser): the program counter is at the
// instruction, which user space has to decode or fail.
type ArmNISV struct {
	ESRISS   uint64 // of ESR_EL2: "the ISS field", of which only WnR, CM and DFSC are valid
	FaultIPA uint64
}

// ArmNISV is valid for ExitArmNISV.
func (e *Exit) ArmNISV() ArmNISV {
	if e.Reason != ExitArmNISV {
		return ArmNISV{}
	}
	return ArmNISV{ESRISS: e.u64(0), FaultIPA: e.u64(8)}
}

// Xen is a hypercall in Xen mode (CapXenHVM).
type Xen struct {
	Type     uint32 // 1 is a hypercall, the only one there is
	LongMode bool
	CPL      uint32 // the privilege level that called
	Input    uint64 // number of the call
	Params   [6]uint64
}

// Xen is valid for ExitXen. VCPU.SetXenResult answers it.
func (e *Exit) Xen() (x Xen) {
	if e.Reason != ExitXen {
		return x
	}
	x = Xen{Type: e.u32(0), LongMode: e.u32(8) != 0, CPL: e.u32(12), Input: e.u64(16)}
	for i := range x.Params {
		x.Params[i] = e.u64(32 + 8*i)
	}
	return x
}

// MemoryFault is a range that KVM could not access for the guest
// (CapMemoryFaultInfo). It comes with EFAULT from Run, not with nil.
type MemoryFault struct{ Flags, Addr, Size uint64 }

// MemoryFault is valid for ExitMemoryFault.
func (e *Exit) MemoryFault() MemoryFault {
	if e.Reason != ExitMemoryFault {
		return MemoryFault{}
	}
	return MemoryFault{Flags: e.u64(0), Addr: e.u64(8), Size: e.u64(16)}
}

// HardwareExitReason is valid for ExitUnknown: "the vcpu has exited due to an
// unknown reason. Further architecture-specific information is available".
func (e *Exit) HardwareExitReason() uint64 {
	if e.Reason != ExitUnknown {
		return 0
	}
	return e.u64(0)
}
