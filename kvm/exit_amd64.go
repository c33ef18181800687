package kvm

// Debug is a debug event that user space asked for (KVM_EXIT_DEBUG, struct
// kvm_debug_exit_arch).
type Debug struct {
	Exception uint32 // vector: 1 (#DB) or 3 (#BP)
	PC        uint64 // linear address, at the instruction
	DR6, DR7  uint64
}

// Debug is valid for ExitDebug.
func (e *Exit) Debug() Debug {
	if e.Reason != ExitDebug {
		return Debug{}
	}
	return Debug{Exception: e.u32(0), PC: e.u64(8), DR6: e.u64(16), DR7: e.u64(24)}
}
