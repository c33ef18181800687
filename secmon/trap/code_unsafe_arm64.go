package trap

import "unsafe"

// syncLine makes instructions that were written at addr visible to instruction
// fetches of all CPUs. vCPUs that stand still fetch anew when they go on.
//
//go:noescape
func syncLine(addr unsafe.Pointer)

// syncCode does so for all of p, which is one aligned instruction.
func syncCode(p []byte) {
	// SAFETY: the address is of p's first byte, which lives as long as the
	// call; cache maintenance changes no memory.
	syncLine(unsafe.Pointer(unsafe.SliceData(p)))
}
