package kvm

// Capability is what is to be known of a Cap.
type Capability struct {
	Cap      Cap
	Name     string // the kernel's, without KVM_CAP_
	AMD64    string // the first kernel release that has it on this architecture,
	ARM64    string // or "" where it never will
	Required bool   // without it no machine runs
	Use      string // what it is for in warder
}

// Since is the first kernel release with the capability on an architecture, ""
// where it does not apply.
func (c *Capability) Since(arch string) string {
	switch arch {
	case "amd64":
		return c.AMD64
	case "arm64":
		return c.ARM64
	}
	return ""
}

// Capabilities is every capability that warder uses, those it needs first.
var Capabilities = []Capability{
	{CapUserMemory, "USER_MEMORY", "2.6.25", "3.11", true, "guest memory is ours"},
	{CapSyncMMU, "SYNC_MMU", "2.6.27", "3.11", true, "guest memory follows the host's mapping"},
	{CapNRMemslots, "NR_MEMSLOTS", "2.6.26", "4.12", false, "how many ranges of memory can be told apart"},
	{CapNRVCPUs, "NR_VCPUS", "2.6.26", "3.11", false, "how many CPUs a guest should have at most"},
	{CapMaxVCPUs, "MAX_VCPUS", "3.2", "3.11", false, "how many CPUs a guest can have at most"},
	{CapIRQChip, "IRQCHIP", "2.6.24", "3.11", true, "interrupt controller in the kernel"},
	{CapIRQFD, "IRQFD", "2.6.32", "4.1", true, "device interrupts by eventfd"},
	{CapIRQRouting, "IRQ_ROUTING", "2.6.30", "4.8", false, "choosing what an interrupt line does"},
	{CapIOEventFD, "IOEVENTFD", "2.6.32", "4.1", true, "virtqueue notifications by eventfd, with no exit"},
	{CapIOEventFDAnyLength, "IOEVENTFD_ANY_LENGTH", "4.4", "4.4", false, "notifications whatever the access's width"},
	{CapImmediateExit, "IMMEDIATE_EXIT", "4.11", "4.11", true, "stopping a vCPU without losing a request"},
	{CapCheckExtensionVM, "CHECK_EXTENSION_VM", "3.17", "3.17", false, "asking a VM, not the system, what it can do"},
	{CapMPState, "MP_STATE", "2.6.26", "4.1", false, "saving and restoring which CPUs are up"},
	{CapVCPUEvents, "VCPU_EVENTS", "2.6.33", "4.19", false, "saving, restoring and injecting exceptions"},

	{CapExtCPUID, "EXT_CPUID", "2.6.25", "", true, "telling the guest which processor it has"},
	{CapPIT2, "PIT2", "2.6.32", "", true, "timer that kernels calibrate against"},
	{CapPITState2, "PIT_STATE2", "2.6.32", "", false, "saving and restoring that timer"},
	{CapSetTSSAddr, "SET_TSS_ADDR", "2.6.25", "", true, "real mode on Intel processors"},
	{CapSetIdentityMapAddr, "SET_IDENTITY_MAP_ADDR", "2.6.32", "", false, "real mode on older Intel processors"},
	{CapXSAVE, "XSAVE", "2.6.36", "", false, "saving and restoring vector registers"},
	{CapXCRS, "XCRS", "2.6.36", "", false, "saving and restoring extended control registers"},
	{CapDebugRegs, "DEBUGREGS", "2.6.34", "", false, "saving and restoring debug registers"},
	{CapAdjustClock, "ADJUST_CLOCK", "2.6.33", "", false, "a guest clock that goes on after a restore"},
	{CapTSCControl, "TSC_CONTROL", "3.0", "", false, "keeping a guest's TSC frequency on another host"},
	{CapGetTSCKHz, "GET_TSC_KHZ", "3.0", "", false, "telling the guest its TSC frequency"},
	{CapUserNMI, "USER_NMI", "2.6.28", "", false, "interrupting a guest that is stuck"},

	{CapOneReg, "ONE_REG", "", "3.11", true, "reading and writing registers"},
	{CapDeviceCtrl, "DEVICE_CTRL", "", "3.14", true, "interrupt controller in the kernel"},
	{CapARMPSCI02, "ARM_PSCI_0_2", "", "3.16", true, "power off, reset and further CPUs"},
	{CapARMVMIPASize, "ARM_VM_IPA_SIZE", "", "4.20", false, "guests with more than 40 bits of memory addresses"},
	{CapARMPMUv3, "ARM_PMU_V3", "", "4.6", false, "performance counters in the guest"},
	{CapVCPUAttributes, "VCPU_ATTRIBUTES", "5.16", "4.6", false, "setting timer and PMU interrupts, TSC offset"},
	{CapARMSystemSuspend, "ARM_SYSTEM_SUSPEND", "", "5.19", false, "guests that suspend"},
	{CapCounterOffset, "COUNTER_OFFSET", "", "6.4", false, "a guest clock that goes on after a restore"},
	{CapStealTime, "STEAL_TIME", "5.10", "5.10", false, "guests that know when they were not running"},
	{CapARMSVE, "ARM_SVE", "", "5.2", false, "scalable vectors in the guest"},
	{CapARMPtrAuthAddress, "ARM_PTRAUTH_ADDRESS", "", "5.2", false, "pointer authentication in the guest"},
	{CapARMPtrAuthGeneric, "ARM_PTRAUTH_GENERIC", "", "5.2", false, "pointer authentication in the guest"},

	{CapSyncRegs, "SYNC_REGS", "4.17", "", true, "registers at a trap without a further system call"},
	{CapSetGuestDebug, "SET_GUEST_DEBUG", "2.6.30", "4.3", false, "breakpoints: system-call traps of arm64"},
	{CapSetGuestDebug2, "SET_GUEST_DEBUG2", "5.13", "5.13", false, "asking which kinds of breakpoints there are"},
	{CapGuestDebugHWBPs, "GUEST_DEBUG_HW_BPS", "", "4.3", false, "hardware breakpoints"},
	{CapGuestDebugHWWPs, "GUEST_DEBUG_HW_WPS", "", "4.3", false, "watchpoints"},
	{CapX86UserSpaceMSR, "X86_USER_SPACE_MSR", "5.10", "", false, "seeing writes to privileged registers"},
	{CapX86MSRFilter, "X86_MSR_FILTER", "5.10", "", false, "seeing writes to privileged registers"},
	{CapExitHypercall, "EXIT_HYPERCALL", "5.14", "", false, "hypercalls of the guest"},
	{CapXenHVM, "XEN_HVM", "2.6.33", "", false, "hypercalls from user mode"},
	{CapExitOnEmulationFailure, "EXIT_ON_EMULATION_FAILURE", "5.14", "", false, "reporting an instruction that KVM cannot emulate"},
	{CapX86TripleFaultEvent, "X86_TRIPLE_FAULT_EVENT", "6.0", "", false, "saving and restoring a triple fault"},
	{CapBinaryStatsFD, "BINARY_STATS_FD", "5.14", "5.14", false, "telling of guests that wait again and again for nothing"},
	{CapSystemEventData, "SYSTEM_EVENT_DATA", "5.18", "5.18", false, "why a guest went down"},
	{CapARMNISVToUser, "ARM_NISV_TO_USER", "", "5.5", false, "devices touched by odd instructions"},
	{CapARMInjectExtDABT, "ARM_INJECT_EXT_DABT", "", "5.5", false, "refusing an access, as hardware would"},
	{CapMemoryFaultInfo, "MEMORY_FAULT_INFO", "6.8", "", false, "which address KVM could not access"},
	{CapDisableQuirks2, "DISABLE_QUIRKS2", "5.18", "", false, "cheap changes of memory slots"},

	{CapReadOnlyMem, "READONLY_MEM", "3.7", "3.18", false, "guest memory that exits when written"},
	{CapManualDirtyLogProtect2, "MANUAL_DIRTY_LOG_PROTECT2", "5.2", "5.2", false, "consistent reads of guest memory, snapshots"},
	{CapDirtyLogRing, "DIRTY_LOG_RING", "5.11", "", false, "written pages in the order of the writes"},
	{CapDirtyLogRingAcqRel, "DIRTY_LOG_RING_ACQ_REL", "6.1", "6.2", false, "written pages in the order of the writes"},
	{CapDirtyLogRingWithBitmap, "DIRTY_LOG_RING_WITH_BITMAP", "", "6.2", false, "written pages, those by the interrupt controller too"},

	{CapSignalMSI, "SIGNAL_MSI", "3.5", "4.8", false, "message-signalled interrupts"},
	{CapIRQFDResample, "IRQFD_RESAMPLE", "3.7", "4.1", false, "level-triggered interrupts by eventfd"},
}
