package vmm_test

import (
	"testing"

	"warder/vmm"
)

// A pair of registers stored to 2 GiB, where the first file is that the guest has as
// memory; then power off. An exception resets the machine.
var codeOpaqueStore = withVectors(
	0x1000_3e01, // adr x1, vectors
	0xd518_c001, // msr vbar_el1, x1
	0xd2b0_0002, // mov x2, #0x80000000
	0xa900_0440, // stp x0, x1, [x2]
	movW0Off, movkW0PSCI, hvc, spin,
)

// TestOpaqueStore has a guest store to a file that it may only read, by an
// instruction that the CPU does not take apart: it gets an exception.
func TestOpaqueStore(t *testing.T) {
	m := rawMachine(t, codeOpaqueStore, vmm.Config{Pmems: []vmm.Pmem{{Path: "testdata/greeting.erofs"}}})
	if e := ended(t, m); e.Reason != vmm.Reset {
		t.Errorf("ended by %v, want %v\n%v", e, vmm.Reset, e.Report)
	}
}
