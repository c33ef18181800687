package kvm

import "unsafe"

// The layouts of arm64, checked by the compiler.
var (
	_ [32]byte  = [unsafe.Sizeof(VCPUInit{})]byte{}
	_ [520]byte = [unsafe.Sizeof(GuestDebug{})]byte{}
	_ [16]byte  = [unsafe.Sizeof(counterOffset{})]byte{}
	_ [24]byte  = [unsafe.Sizeof(smcccFilter{})]byte{}
	_ [16]byte  = [unsafe.Sizeof(oneReg{})]byte{}

	_ [8]byte = [unsafe.Offsetof(VCPUEvents{}.SErrorESR)]byte{}
)
