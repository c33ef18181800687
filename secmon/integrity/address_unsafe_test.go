package integrity

import "unsafe"

// address is where the code of f is.
func address(f func(int) int) uint64 {
	// SAFETY: a function's value is a pointer to where the address of its code is kept.
	return uint64(**(**uintptr)(unsafe.Pointer(&f)))
}

// pointer is where a variable is.
func pointer[T any](v *T) uint64 {
	// SAFETY: the address is reported and not used here.
	return uint64(uintptr(unsafe.Pointer(v)))
}
