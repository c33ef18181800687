package vmm

// Fields of PSTATE as SPSR_EL1 has them, of SCTLR_EL1, and the vectors of
// synchronous exceptions (Arm ARM, C5.2.19, D19.2.118, D1.3.1).
const (
	pstateMode   = 0xf
	pstateMode32 = 1 << 4
	pstateEL0t   = 0x0
	pstateEL1t   = 0x4
	pstateEL1h   = 0x5
	pstateDAIF   = 0xf << 6
	pstateI      = 1 << 7
	pstateSSBS   = 1 << 12
	pstatePAN    = 1 << 22
	pstateDIT    = 1 << 24
	pstateNZCV   = 0xf << 28

	sctlrSPAN  = 1 << 23
	sctlrDSSBS = 1 << 44

	vectorSP0   = 0x000 // from EL1 with EL0's stack pointer
	vectorEL1   = 0x200 // from EL1 with its own
	vectorEL0   = 0x400 // from EL0
	vectorEL032 = 0x600 // from EL0 in AArch32
)

// exceptionEntry is how the CPU enters EL1 for a synchronous exception: the PSTATE
// in which the handler starts, and its offset from VBAR_EL1 (Arm ARM,
// AArch64.TakeException).
func exceptionEntry(pstate, sctlr uint64) (handler, vector uint64) {
	handler = pstate&(pstateNZCV|pstateDIT|pstatePAN) | pstateDAIF | pstateEL1h
	if sctlr&sctlrSPAN == 0 {
		handler |= pstatePAN
	}
	if sctlr&sctlrDSSBS != 0 {
		handler |= pstateSSBS
	}
	switch {
	case pstate&pstateMode32 != 0:
		return handler, vectorEL032
	case pstate&pstateMode == pstateEL0t:
		return handler, vectorEL0
	case pstate&pstateMode == pstateEL1t:
		return handler, vectorSP0
	}
	return handler, vectorEL1
}
