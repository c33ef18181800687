package kvm

import "fmt"

// ExitReason is kvm_run.exit_reason.
type ExitReason uint32

// The reasons that amd64 and arm64 know.
const (
	ExitUnknown       ExitReason = 0
	ExitException     ExitReason = 1
	ExitIO            ExitReason = 2
	ExitHypercall     ExitReason = 3
	ExitDebug         ExitReason = 4
	ExitHlt           ExitReason = 5
	ExitMMIO          ExitReason = 6
	ExitIRQWindowOpen ExitReason = 7
	ExitShutdown      ExitReason = 8
	ExitFailEntry     ExitReason = 9
	ExitIntr          ExitReason = 10
	ExitSetTPR        ExitReason = 11
	ExitTPRAccess     ExitReason = 12
	ExitNMI           ExitReason = 16
	ExitInternalError ExitReason = 17
	ExitWatchdog      ExitReason = 21
	ExitSystemEvent   ExitReason = 24
	ExitIOAPICEOI     ExitReason = 26
	ExitHyperV        ExitReason = 27
	ExitArmNISV       ExitReason = 28
	ExitX86RDMSR      ExitReason = 29
	ExitX86WRMSR      ExitReason = 30
	ExitDirtyRingFull ExitReason = 31
	ExitAPResetHold   ExitReason = 32
	ExitX86BusLock    ExitReason = 33
	ExitXen           ExitReason = 34
	ExitNotify        ExitReason = 37
	ExitMemoryFault   ExitReason = 39

	// ExitMalformed is not the kernel's: the run page holds an offset or a
	// length that leads outside it.
	ExitMalformed ExitReason = 1<<32 - 1
)

// NumExitReasons is one more than the largest reason of the kernel's known here:
// the size of a table indexed by reason.
const NumExitReasons = 40

var exitReasonNames = [NumExitReasons]string{
	ExitUnknown:       "unknown",
	ExitException:     "exception",
	ExitIO:            "io",
	ExitHypercall:     "hypercall",
	ExitDebug:         "debug",
	ExitHlt:           "hlt",
	ExitMMIO:          "mmio",
	ExitIRQWindowOpen: "irq-window-open",
	ExitShutdown:      "shutdown",
	ExitFailEntry:     "fail-entry",
	ExitIntr:          "intr",
	ExitSetTPR:        "set-tpr",
	ExitTPRAccess:     "tpr-access",
	ExitNMI:           "nmi",
	ExitInternalError: "internal-error",
	ExitWatchdog:      "watchdog",
	ExitSystemEvent:   "system-event",
	ExitIOAPICEOI:     "ioapic-eoi",
	ExitHyperV:        "hyperv",
	ExitArmNISV:       "arm-nisv",
	ExitX86RDMSR:      "rdmsr",
	ExitX86WRMSR:      "wrmsr",
	ExitDirtyRingFull: "dirty-ring-full",
	ExitAPResetHold:   "ap-reset-hold",
	ExitX86BusLock:    "bus-lock",
	ExitXen:           "xen",
	ExitNotify:        "notify",
	ExitMemoryFault:   "memory-fault",
}

// String is a short lower-case name, fit for a statistics key.
func (r ExitReason) String() string {
	if r < NumExitReasons && exitReasonNames[r] != "" {
		return exitReasonNames[r]
	}
	if r == ExitMalformed {
		return "malformed"
	}
	return fmt.Sprintf("exit-%d", uint32(r))
}
