package kvm_test

import (
	"testing"

	"warder/internal/testkvm"
	"warder/kvm"
)

// spinGuest never exits by itself.
func spinGuest(t testing.TB) *testkvm.Guest {
	t.Helper()
	return testkvm.NewGuest(t, []byte{0xeb, 0xfe}) // jmp .
}

// sleepGuest waits inside the kernel, which emulates its HLT.
func sleepGuest(t testing.TB) *testkvm.Guest {
	t.Helper()
	return testkvm.NewGuest(t, []byte{0xf4, 0xeb, 0xfd}, func(vm *kvm.VM) { // hlt; jmp to it
		if err := vm.CreateIRQChip(); err != nil {
			t.Fatal(err)
		}
	})
}

// exitGuest does nothing but exit.
func exitGuest(t testing.TB) *testkvm.Guest {
	t.Helper()
	return testkvm.NewGuest(t, []byte{0xe6, 0x10, 0xeb, 0xfc}) // out 0x10, al; jmp to it
}
