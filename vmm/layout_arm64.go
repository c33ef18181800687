package vmm

import (
	"math"

	"warder/devices/guestmem"
)

// The guest-physical map of an arm64 machine. docs/memory-map.md shows it as a
// table, and a test holds the two together.
const (
	ramBase = gib // everything below is devices

	// hotplugBase is the lowest address of memory that can be plugged.
	hotplugBase = ramBase

	gicDistributor   = 0x0800_0000
	gicCPUInterface  = 0x0801_0000 // GICv2
	gicRedistributor = 0x080a_0000 // GICv3, redistributorSize a vCPU, up to the UART
	uartBase         = 0x0900_0000
	rtcBase          = 0x0901_0000
	watchdogBase     = 0x0902_0000
	gpioBase         = 0x0903_0000
	// hypercallBase takes calls to warder on hosts that cannot forward HVCs:
	// docs/hypercalls.md.
	hypercallBase = 0x0904_0000
	virtioBase    = 0x0a00_0000

	redistributorSize = 128 * kib
	maxCPUs           = (uartBase - gicRedistributor) / redistributorSize
	maxCPUsV2         = 8 // that a GICv2 can interrupt

	// Shared peripheral interrupts, counted from 0 as a device tree counts
	// them; KVM's irqfd counts the same way.
	uartSPI          = 1
	rtcSPI           = 2
	watchdogSPI      = 3
	gpioSPI          = 7
	virtioSPI        = 16
	interrupts       = 128 // all that the GIC has, with the 32 private ones
	maxVirtioDevices = interrupts - 32 - virtioSPI
	powerKeyPin      = 3

	// trapImmediate marks the BRK that a system-call hook puts in place of a
	// kernel function's NOP.
	trapImmediate = 0x5744
)

func ram(size uint64) []guestmem.Range {
	// No hole: RAM goes on for as long as the guest-physical space does.
	return ramRanges(size, ramBase, math.MaxUint64, 0)
}
