package kvm

import "unsafe"

// The requests that both architectures have. Sizes come from the structures, so
// that a wrong layout is a wrong number and ENOTTY at the first call.
var (
	// On /dev/kvm.
	reqGetAPIVersion  = request{"KVM_GET_API_VERSION", none}
	reqCreateVM       = request{"KVM_CREATE_VM", none | 0x01}
	reqCheckExtension = request{"KVM_CHECK_EXTENSION", none | 0x03}
	reqVCPUMapSize    = request{"KVM_GET_VCPU_MMAP_SIZE", none | 0x04}

	// On a VM.
	reqCreateVCPU      = request{"KVM_CREATE_VCPU", none | 0x41}
	reqGetDirtyLog     = request{"KVM_GET_DIRTY_LOG", write | unsafe.Sizeof(dirtyLog{})<<sizeShift | 0x42}
	reqSetMemory       = request{"KVM_SET_USER_MEMORY_REGION", write | unsafe.Sizeof(memoryRegion{})<<sizeShift | 0x46}
	reqIRQLine         = request{"KVM_IRQ_LINE", write | unsafe.Sizeof(irqLevel{})<<sizeShift | 0x61}
	reqSetGSIRouting   = request{"KVM_SET_GSI_ROUTING", write | unsafe.Sizeof(uint64(0))<<sizeShift | 0x6a}
	reqIRQFD           = request{"KVM_IRQFD", write | unsafe.Sizeof(irqFD{})<<sizeShift | 0x76}
	reqIOEventFD       = request{"KVM_IOEVENTFD", write | unsafe.Sizeof(ioEventFD{})<<sizeShift | 0x79}
	reqSignalMSI       = request{"KVM_SIGNAL_MSI", write | unsafe.Sizeof(msi{})<<sizeShift | 0xa5}
	reqClearDirtyLog   = request{"KVM_CLEAR_DIRTY_LOG", both | unsafe.Sizeof(clearDirtyLog{})<<sizeShift | 0xc0}
	reqResetDirtyRings = request{"KVM_RESET_DIRTY_RINGS", none | 0xc7}
	reqCreateDevice    = request{"KVM_CREATE_DEVICE", both | unsafe.Sizeof(createDevice{})<<sizeShift | 0xe0}

	// On a VM or a vCPU.
	reqEnableCap  = request{"KVM_ENABLE_CAP", write | unsafe.Sizeof(enableCap{})<<sizeShift | 0xa3}
	reqGetStatsFD = request{"KVM_GET_STATS_FD", none | 0xce}

	// On a VM, a vCPU or a device.
	reqSetDeviceAttr = request{"KVM_SET_DEVICE_ATTR", write | unsafe.Sizeof(deviceAttr{})<<sizeShift | 0xe1}
	reqGetDeviceAttr = request{"KVM_GET_DEVICE_ATTR", write | unsafe.Sizeof(deviceAttr{})<<sizeShift | 0xe2}
	reqHasDeviceAttr = request{"KVM_HAS_DEVICE_ATTR", write | unsafe.Sizeof(deviceAttr{})<<sizeShift | 0xe3}

	// On a vCPU.
	reqRun           = request{"KVM_RUN", none | 0x80}
	reqGetMPState    = request{"KVM_GET_MP_STATE", read | unsafe.Sizeof(mpState{})<<sizeShift | 0x98}
	reqSetMPState    = request{"KVM_SET_MP_STATE", write | unsafe.Sizeof(mpState{})<<sizeShift | 0x99}
	reqSetGuestDebug = request{"KVM_SET_GUEST_DEBUG", write | unsafe.Sizeof(GuestDebug{})<<sizeShift | 0x9b}
	reqGetVCPUEvents = request{"KVM_GET_VCPU_EVENTS", read | unsafe.Sizeof(VCPUEvents{})<<sizeShift | 0x9f}
	reqSetVCPUEvents = request{"KVM_SET_VCPU_EVENTS", write | unsafe.Sizeof(VCPUEvents{})<<sizeShift | 0xa0}
)
