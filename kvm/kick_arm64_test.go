package kvm_test

import (
	"testing"

	"warder/internal/testkvm"
	"warder/kvm"
)

// spinGuest never exits by itself.
func spinGuest(t testing.TB) *testkvm.Guest {
	t.Helper()
	return testkvm.NewGuest(t, code(0x14000000)) // b .
}

// sleepGuest waits inside the kernel, which emulates its WFI.
func sleepGuest(t testing.TB) *testkvm.Guest {
	t.Helper()
	return testkvm.NewGuest(t, code(0xd503207f, 0x17ffffff)) // wfi; b to it
}

// exitGuest does nothing but exit.
func exitGuest(t testing.TB) *testkvm.Guest {
	t.Helper()
	g := testkvm.NewGuest(t, code(storeX0atX1, 0x17ffffff)) // str x0, [x1]; b to it
	g.SetReg(t, kvm.RegX(1), pauseAt)
	return g
}
