package vmm_test

import (
	"testing"

	"warder/internal/testkernel"
	"warder/internal/testkvm"
	"warder/vmm/hostinfo"
)

// codeDebug counts in memory, saves its flags and switches off.
var codeDebug = append([]byte{
	0xbc, 0x00, 0x00, 0x00, 0x02, // 0: mov $0x2000000, %esp
	0xb8, 0x01, 0x00, 0x00, 0x00, // 5: mov $1, %eax
	0x89, 0x04, 0x25, 0x00, 0x00, 0xf0, 0x01, // 10: mov %eax, 0x1f00000
	0x9c, // 17: pushf
	0x5b, // 18: pop %rbx
	0x90, // 19: nop
}, codePowerOff...) // 20

// Where the instructions of codeDebug are.
var debugSteps = []uint64{testkernel.RawBase, testkernel.RawBase + 5, testkernel.RawBase + 10, testkernel.RawBase + 17, testkernel.RawBase + 18, testkernel.RawBase + 19, testkernel.RawBase + 20}

const (
	debugStore  = 2 // the one that writes to debugWatched
	debugLast   = testkernel.RawBase + 19
	debugCells  = 0x1f0_0000
	debugLoaded = "rax"
	debugSaved  = "rbx"  // gets the flags
	debugTrap   = 1 << 8 // which are not to have this one
	storeIsDone = true   // when its watchpoint tells
	pcName      = "rip"
)

func needBreakpoints(t *testing.T) {
	t.Helper()
	testkvm.Open(t)
	if !hostinfo.BreakpointsExit("") {
		testkvm.NeedHardware(t, "a processor that lets INT3 be seen, which QEMU's is not")
	}
}
