package vmm_test

import "unsafe"

// address is where p, which is not empty, stands in this process's memory.
func address(p []byte) uint64 {
	// SAFETY: only the number is used; p is a mapping, which does not move.
	return uint64(uintptr(unsafe.Pointer(&p[0])))
}
