package vmm_test

import (
	"testing"

	"warder/internal/testkernel"
)

// codeDebug counts in memory, reads its flags and switches off.
var codeDebug = a64(
	0xd2a8_3e01, // mov x1, #0x41f00000
	0xd280_0020, // mov x0, #1
	0xd503_47ff, // msr daifclr, #7
	0xb900_0020, // str w0, [x1]
	0xd53b_4222, // mrs x2, daif
	0xd503_201f, // nop
	movW0Off, movkW0PSCI, hvc, spin,
)

// Where the instructions of codeDebug are, and that of the header before them.
var debugSteps = []uint64{testkernel.RawBase - 64, testkernel.RawBase, testkernel.RawBase + 4, testkernel.RawBase + 8, testkernel.RawBase + 12, testkernel.RawBase + 16, testkernel.RawBase + 20, testkernel.RawBase + 24}

const (
	debugStore  = 4 // the one that writes to debugWatched
	debugLast   = testkernel.RawBase + 20
	debugCells  = 0x41f0_0000
	debugLoaded = "x0"
	debugSaved  = "x2"   // gets the interrupt masks
	debugTrap   = 1 << 7 // which are not to have this one
	storeIsDone = false  // when its watchpoint tells
	pcName      = "pc"
)

func needBreakpoints(*testing.T) {}
