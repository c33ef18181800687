package kvm

import "unsafe"

// The layouts that the kernel has, checked by the compiler.
var (
	_ [32]byte  = [unsafe.Sizeof(memoryRegion{})]byte{}
	_ [24]byte  = [unsafe.Sizeof(deviceAttr{})]byte{}
	_ [16]byte  = [unsafe.Sizeof(dirtyLog{})]byte{}
	_ [24]byte  = [unsafe.Sizeof(clearDirtyLog{})]byte{}
	_ [8]byte   = [unsafe.Sizeof(irqLevel{})]byte{}
	_ [32]byte  = [unsafe.Sizeof(irqFD{})]byte{}
	_ [64]byte  = [unsafe.Sizeof(ioEventFD{})]byte{}
	_ [32]byte  = [unsafe.Sizeof(msi{})]byte{}
	_ [48]byte  = [unsafe.Sizeof(irqRoute{})]byte{}
	_ [104]byte = [unsafe.Sizeof(enableCap{})]byte{}
	_ [12]byte  = [unsafe.Sizeof(createDevice{})]byte{}
	_ [4]byte   = [unsafe.Sizeof(mpState{})]byte{}
	_ [16]byte  = [unsafe.Sizeof(dirtyGFN{})]byte{}
	_ [64]byte  = [unsafe.Sizeof(VCPUEvents{})]byte{}

	_ [2352]byte          = [unsafe.Sizeof(runPage{})]byte{}
	_ [offExitReason]byte = [unsafe.Offsetof(runPage{}.exitReason)]byte{}
	_ [offFlags]byte      = [unsafe.Offsetof(runPage{}.flags)]byte{}
	_ [offUnion]byte      = [unsafe.Offsetof(runPage{}.exit)]byte{}
	_ [288]byte           = [unsafe.Offsetof(runPage{}.validRegs)]byte{}
	_ [304]byte           = [unsafe.Offsetof(runPage{}.sync)]byte{}
)
