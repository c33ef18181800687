package icache

import "unsafe"

// line is the least that a cache line can be, in bytes (Arm ARM, CTR_EL0).
const line = 16

// syncLine makes instructions that were written at addr visible to instruction
// fetches of all CPUs. vCPUs that stand still fetch anew when they go on.
//
//go:noescape
func syncLine(addr unsafe.Pointer)

// Sync makes what was written to p visible to instruction fetches.
func Sync(p []byte) {
	if len(p) == 0 {
		return
	}
	for i := 0; i < len(p); i += line {
		// SAFETY: the address is of a byte of p, which lives as long as the
		// call; cache maintenance changes no memory.
		syncLine(unsafe.Pointer(&p[i]))
	}
	// SAFETY: as above; p's end may be in a line of its own.
	syncLine(unsafe.Pointer(&p[len(p)-1]))
}
