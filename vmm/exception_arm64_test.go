package vmm

import "testing"

func TestExceptionEntry(t *testing.T) {
	const carry, step, illegal, branchType, uao = 1 << 29, 1 << 21, 1 << 20, 3 << 10, 1 << 23
	const entered = pstateDAIF | pstateEL1h
	for name, c := range map[string]struct{ pstate, sctlr, handler, vector uint64 }{
		"from EL0":            {pstateEL0t | carry, sctlrSPAN, entered | carry, vectorEL0},
		"from EL1":            {pstateEL1h | step | illegal | branchType | uao, sctlrSPAN, entered, vectorEL1},
		"from EL1, stack 0":   {pstateEL1t, sctlrSPAN, entered, vectorSP0},
		"from AArch32":        {pstateMode32, sctlrSPAN, entered, vectorEL032},
		"PAN is set":          {pstateEL0t, 0, entered | pstatePAN, vectorEL0},
		"PAN stays":           {pstateEL1h | pstatePAN, sctlrSPAN, entered | pstatePAN, vectorEL1},
		"DIT stays":           {pstateEL0t | pstateDIT, sctlrSPAN, entered | pstateDIT, vectorEL0},
		"SSBS by the default": {pstateEL0t | pstateSSBS, sctlrSPAN, entered, vectorEL0},
		"SSBS is set":         {pstateEL0t, sctlrSPAN | sctlrDSSBS, entered | pstateSSBS, vectorEL0},
	} {
		t.Run(name, func(t *testing.T) {
			if handler, vector := exceptionEntry(c.pstate, c.sctlr); handler != c.handler || vector != c.vector {
				t.Errorf("entered with %#x at %#x, want %#x at %#x", handler, vector, c.handler, c.vector)
			}
		})
	}
}
