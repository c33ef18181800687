package kvm

import "unsafe"

// The layouts of x86, checked by the compiler.
var (
	_ [144]byte  = [unsafe.Sizeof(Regs{})]byte{}
	_ [24]byte   = [unsafe.Sizeof(Segment{})]byte{}
	_ [16]byte   = [unsafe.Sizeof(DescriptorTable{})]byte{}
	_ [312]byte  = [unsafe.Sizeof(Sregs{})]byte{}
	_ [416]byte  = [unsafe.Sizeof(FPU{})]byte{}
	_ [16]byte   = [unsafe.Sizeof(MSREntry{})]byte{}
	_ [40]byte   = [unsafe.Sizeof(CPUIDEntry{})]byte{}
	_ [1024]byte = [unsafe.Sizeof(LAPIC{})]byte{}
	_ [128]byte  = [unsafe.Sizeof(DebugRegs{})]byte{}
	_ [4096]byte = [unsafe.Sizeof(XSAVE{})]byte{}
	_ [392]byte  = [unsafe.Sizeof(XCRS{})]byte{}
	_ [72]byte   = [unsafe.Sizeof(GuestDebug{})]byte{}
	_ [520]byte  = [unsafe.Sizeof(SyncRegs{})]byte{}
	_ [520]byte  = [unsafe.Sizeof(IRQChip{})]byte{}
	_ [112]byte  = [unsafe.Sizeof(PIT2{})]byte{}
	_ [64]byte   = [unsafe.Sizeof(pitConfig{})]byte{}
	_ [48]byte   = [unsafe.Sizeof(Clock{})]byte{}
	_ [24]byte   = [unsafe.Sizeof(translation{})]byte{}
	_ [24]byte   = [unsafe.Sizeof(msrRange{})]byte{}
	_ [392]byte  = [unsafe.Sizeof(msrFilter{})]byte{}

	_ [20]byte = [unsafe.Offsetof(VCPUEvents{}.Flags)]byte{}
	_ [55]byte = [unsafe.Offsetof(VCPUEvents{}.ExceptionHasPayload)]byte{}
)
