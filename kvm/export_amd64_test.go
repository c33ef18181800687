package kvm

import "reflect"

// Requests is the number of each ioctl, by the kernel's name for it.
func Requests() map[string]uintptr {
	all := []request{
		reqGetAPIVersion, reqCreateVM, reqCheckExtension, reqVCPUMapSize, reqCreateVCPU, reqGetDirtyLog, reqSetMemory,
		reqIRQLine, reqSetGSIRouting, reqIRQFD, reqIOEventFD, reqSignalMSI, reqClearDirtyLog, reqResetDirtyRings,
		reqCreateDevice, reqEnableCap, reqSetDeviceAttr, reqGetDeviceAttr, reqHasDeviceAttr, reqRun, reqGetMPState,
		reqSetMPState, reqSetGuestDebug, reqGetVCPUEvents, reqSetVCPUEvents,

		reqGetMSRIndexList, reqGetSupportedCPUID, reqSetTSSAddr, reqSetIdentityMapAddr, reqCreateIRQChip, reqGetIRQChip,
		reqSetIRQChip, reqCreatePIT2, reqSetClock, reqGetClock, reqGetPIT2, reqSetPIT2, reqSetMSRFilter, reqGetRegs,
		reqSetRegs, reqGetSregs, reqSetSregs, reqTranslate, reqGetMSRs, reqSetMSRs, reqGetFPU, reqSetFPU, reqGetLAPIC,
		reqSetLAPIC, reqSetCPUID2, reqGetCPUID2, reqNMI, reqGetDebugRegs, reqSetDebugRegs, reqSetTSCKHz, reqGetTSCKHz,
		reqGetXSAVE, reqSetXSAVE, reqGetXCRS, reqSetXCRS,
	}
	m := make(map[string]uintptr, len(all))
	for _, r := range all {
		m[r.name] = r.nr
	}
	return m
}

// Layouts are structures that only this package sees.
var (
	TypeMemoryRegion = reflect.TypeFor[memoryRegion]()
	TypeDirtyLog     = reflect.TypeFor[dirtyLog]()
	TypeCreateDevice = reflect.TypeFor[createDevice]()
	TypeTranslation  = reflect.TypeFor[translation]()
	TypeRunPage      = reflect.TypeFor[runPage]()
)
