package kvm

// Debug is a debug event that user space asked for (KVM_EXIT_DEBUG, struct
// kvm_debug_exit_arch).
type Debug struct {
	// HSR is the syndrome (ESR_EL2). Its exception class, bits 26 to 31: 0x3c is
	// BRK (its immediate is in the low 16 bits), 0x30 a breakpoint, 0x32 a single
	// step, 0x34 a watchpoint.
	HSR uint64
	FAR uint64 // the address, of a watchpoint only
}

// Debug is valid for ExitDebug.
func (e *Exit) Debug() Debug {
	if e.Reason != ExitDebug {
		return Debug{}
	}
	const hsrHighValid = 1 << 0 // KVM_DEBUG_ARCH_HSR_HIGH_VALID
	d := Debug{HSR: uint64(e.u32(0)), FAR: e.u64(8)}
	if e.Flags&hsrHighValid != 0 {
		d.HSR |= uint64(e.u32(4)) << 32
	}
	return d
}
