package gdbvm_test

import "unsafe"

// address is where p's first byte is, in this process.
func address(p []byte) uint64 {
	// SAFETY: only the number is used, and p is mapped memory, which stays.
	return uint64(uintptr(unsafe.Pointer(unsafe.SliceData(p))))
}
