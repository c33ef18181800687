package kvm

import "fmt"

// Cap is a capability (KVM_CAP_*): the number of an extension of the ABI.
type Cap uint32

// The capabilities that warder uses. [Capabilities] tells more about each.
const (
	CapIRQChip                Cap = 0
	CapUserMemory             Cap = 3
	CapSetTSSAddr             Cap = 4
	CapExtCPUID               Cap = 7
	CapNRVCPUs                Cap = 9
	CapNRMemslots             Cap = 10
	CapMPState                Cap = 14
	CapSyncMMU                Cap = 16
	CapUserNMI                Cap = 22
	CapSetGuestDebug          Cap = 23
	CapIRQRouting             Cap = 25
	CapIRQFD                  Cap = 32
	CapPIT2                   Cap = 33
	CapPITState2              Cap = 35
	CapIOEventFD              Cap = 36
	CapSetIdentityMapAddr     Cap = 37
	CapXenHVM                 Cap = 38
	CapAdjustClock            Cap = 39
	CapVCPUEvents             Cap = 41
	CapDebugRegs              Cap = 50
	CapXSAVE                  Cap = 55
	CapXCRS                   Cap = 56
	CapTSCControl             Cap = 60
	CapGetTSCKHz              Cap = 61
	CapMaxVCPUs               Cap = 66
	CapOneReg                 Cap = 70
	CapSyncRegs               Cap = 74
	CapSignalMSI              Cap = 77
	CapReadOnlyMem            Cap = 81
	CapIRQFDResample          Cap = 82
	CapDeviceCtrl             Cap = 89
	CapARMPSCI02              Cap = 102
	CapCheckExtensionVM       Cap = 105
	CapGuestDebugHWBPs        Cap = 119
	CapGuestDebugHWWPs        Cap = 120
	CapIOEventFDAnyLength     Cap = 122
	CapARMPMUv3               Cap = 126
	CapVCPUAttributes         Cap = 127
	CapImmediateExit          Cap = 136
	CapARMVMIPASize           Cap = 165
	CapManualDirtyLogProtect2 Cap = 168
	CapARMSVE                 Cap = 170
	CapARMPtrAuthAddress      Cap = 171
	CapARMPtrAuthGeneric      Cap = 172
	CapARMNISVToUser          Cap = 177
	CapARMInjectExtDABT       Cap = 178
	CapStealTime              Cap = 187
	CapX86UserSpaceMSR        Cap = 188
	CapX86MSRFilter           Cap = 189
	CapDirtyLogRing           Cap = 192
	CapSetGuestDebug2         Cap = 195
	CapExitHypercall          Cap = 201
	CapBinaryStatsFD          Cap = 203
	CapExitOnEmulationFailure Cap = 204
	CapDisableQuirks2         Cap = 213
	CapSystemEventData        Cap = 215
	CapARMSystemSuspend       Cap = 216
	CapX86TripleFaultEvent    Cap = 218
	CapDirtyLogRingAcqRel     Cap = 223
	CapDirtyLogRingWithBitmap Cap = 225
	CapCounterOffset          Cap = 227
	CapMemoryFaultInfo        Cap = 232
)

// Arguments of EnableCap.
const (
	// CapX86UserSpaceMSR: which denied accesses exit instead of a #GP.
	X86UserSpaceMSRInvalid = MSRReasonInvalid
	X86UserSpaceMSRUnknown = MSRReasonUnknown
	X86UserSpaceMSRFilter  = MSRReasonFilter

	// CapManualDirtyLogProtect2.
	DirtyLogManualProtect = 1 << 0 // KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE
	DirtyLogInitiallySet  = 1 << 1 // KVM_DIRTY_LOG_INITIALLY_SET

	// CapDisableQuirks2 on x86.
	QuirkLint0Reenabled     = 1 << 0
	QuirkCDNWCleared        = 1 << 1
	QuirkLAPICMMIOHole      = 1 << 2
	QuirkOut7eIncRIP        = 1 << 3
	QuirkMiscEnableNoMWAIT  = 1 << 4
	QuirkFixHypercallInsn   = 1 << 5
	QuirkMWAITNeverUDFaults = 1 << 6
	QuirkSlotZapAll         = 1 << 7

	// CapExitHypercall: KVM_HC_MAP_GPA_RANGE is the only number allowed.
	ExitHypercallMapGPARange = 1 << 12
)

// String is the kernel's name, without KVM_CAP_.
func (c Cap) String() string {
	for i := range Capabilities {
		if Capabilities[i].Cap == c {
			return Capabilities[i].Name
		}
	}
	return fmt.Sprintf("capability %d", uint32(c))
}
