package kvm

import "unsafe"

// The requests of arm64.
var (
	// On a VM.
	reqPreferredTarget  = request{"KVM_ARM_PREFERRED_TARGET", read | unsafe.Sizeof(VCPUInit{})<<sizeShift | 0xaf}
	reqSetCounterOffset = request{"KVM_ARM_SET_COUNTER_OFFSET", write | unsafe.Sizeof(counterOffset{})<<sizeShift | 0xb5}

	// On a vCPU.
	reqGetOneReg    = request{"KVM_GET_ONE_REG", write | unsafe.Sizeof(oneReg{})<<sizeShift | 0xab}
	reqSetOneReg    = request{"KVM_SET_ONE_REG", write | unsafe.Sizeof(oneReg{})<<sizeShift | 0xac}
	reqVCPUInit     = request{"KVM_ARM_VCPU_INIT", write | unsafe.Sizeof(VCPUInit{})<<sizeShift | 0xae}
	reqGetRegList   = request{"KVM_GET_REG_LIST", both | unsafe.Sizeof(uint64(0))<<sizeShift | 0xb0}
	reqVCPUFinalize = request{"KVM_ARM_VCPU_FINALIZE", write | unsafe.Sizeof(int32(0))<<sizeShift | 0xc2}
)
