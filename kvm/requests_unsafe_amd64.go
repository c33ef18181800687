package kvm

import "unsafe"

// The requests of x86.
var (
	// On /dev/kvm.
	reqGetMSRIndexList   = request{"KVM_GET_MSR_INDEX_LIST", both | unsafe.Sizeof(uint32(0))<<sizeShift | 0x02}
	reqGetSupportedCPUID = request{"KVM_GET_SUPPORTED_CPUID", both | unsafe.Sizeof(uint64(0))<<sizeShift | 0x05}

	// On a VM.
	reqSetTSSAddr         = request{"KVM_SET_TSS_ADDR", none | 0x47}
	reqSetIdentityMapAddr = request{"KVM_SET_IDENTITY_MAP_ADDR", write | unsafe.Sizeof(uint64(0))<<sizeShift | 0x48}
	reqCreateIRQChip      = request{"KVM_CREATE_IRQCHIP", none | 0x60}
	reqGetIRQChip         = request{"KVM_GET_IRQCHIP", both | unsafe.Sizeof(IRQChip{})<<sizeShift | 0x62}
	reqSetIRQChip         = request{"KVM_SET_IRQCHIP", read | unsafe.Sizeof(IRQChip{})<<sizeShift | 0x63}
	reqCreatePIT2         = request{"KVM_CREATE_PIT2", write | unsafe.Sizeof(pitConfig{})<<sizeShift | 0x77}
	reqSetClock           = request{"KVM_SET_CLOCK", write | unsafe.Sizeof(Clock{})<<sizeShift | 0x7b}
	reqGetClock           = request{"KVM_GET_CLOCK", read | unsafe.Sizeof(Clock{})<<sizeShift | 0x7c}
	reqGetPIT2            = request{"KVM_GET_PIT2", read | unsafe.Sizeof(PIT2{})<<sizeShift | 0x9f}
	reqSetPIT2            = request{"KVM_SET_PIT2", write | unsafe.Sizeof(PIT2{})<<sizeShift | 0xa0}
	reqSetMSRFilter       = request{"KVM_X86_SET_MSR_FILTER", write | unsafe.Sizeof(msrFilter{})<<sizeShift | 0xc6}

	// On a vCPU.
	reqGetRegs      = request{"KVM_GET_REGS", read | unsafe.Sizeof(Regs{})<<sizeShift | 0x81}
	reqSetRegs      = request{"KVM_SET_REGS", write | unsafe.Sizeof(Regs{})<<sizeShift | 0x82}
	reqGetSregs     = request{"KVM_GET_SREGS", read | unsafe.Sizeof(Sregs{})<<sizeShift | 0x83}
	reqSetSregs     = request{"KVM_SET_SREGS", write | unsafe.Sizeof(Sregs{})<<sizeShift | 0x84}
	reqTranslate    = request{"KVM_TRANSLATE", both | unsafe.Sizeof(translation{})<<sizeShift | 0x85}
	reqGetMSRs      = request{"KVM_GET_MSRS", both | unsafe.Sizeof(uint64(0))<<sizeShift | 0x88}
	reqSetMSRs      = request{"KVM_SET_MSRS", write | unsafe.Sizeof(uint64(0))<<sizeShift | 0x89}
	reqGetFPU       = request{"KVM_GET_FPU", read | unsafe.Sizeof(FPU{})<<sizeShift | 0x8c}
	reqSetFPU       = request{"KVM_SET_FPU", write | unsafe.Sizeof(FPU{})<<sizeShift | 0x8d}
	reqGetLAPIC     = request{"KVM_GET_LAPIC", read | unsafe.Sizeof(LAPIC{})<<sizeShift | 0x8e}
	reqSetLAPIC     = request{"KVM_SET_LAPIC", write | unsafe.Sizeof(LAPIC{})<<sizeShift | 0x8f}
	reqSetCPUID2    = request{"KVM_SET_CPUID2", write | unsafe.Sizeof(uint64(0))<<sizeShift | 0x90}
	reqGetCPUID2    = request{"KVM_GET_CPUID2", both | unsafe.Sizeof(uint64(0))<<sizeShift | 0x91}
	reqNMI          = request{"KVM_NMI", none | 0x9a}
	reqGetDebugRegs = request{"KVM_GET_DEBUGREGS", read | unsafe.Sizeof(DebugRegs{})<<sizeShift | 0xa1}
	reqSetDebugRegs = request{"KVM_SET_DEBUGREGS", write | unsafe.Sizeof(DebugRegs{})<<sizeShift | 0xa2}
	reqSetTSCKHz    = request{"KVM_SET_TSC_KHZ", none | 0xa2}
	reqGetTSCKHz    = request{"KVM_GET_TSC_KHZ", none | 0xa3}
	reqGetXSAVE     = request{"KVM_GET_XSAVE", read | unsafe.Sizeof(XSAVE{})<<sizeShift | 0xa4}
	reqSetXSAVE     = request{"KVM_SET_XSAVE", write | unsafe.Sizeof(XSAVE{})<<sizeShift | 0xa5}
	reqGetXCRS      = request{"KVM_GET_XCRS", read | unsafe.Sizeof(XCRS{})<<sizeShift | 0xa6}
	reqSetXCRS      = request{"KVM_SET_XCRS", write | unsafe.Sizeof(XCRS{})<<sizeShift | 0xa7}
)
