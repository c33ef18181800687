// Package fdt writes the flattened device tree of an arm64 virtual machine
// (Devicetree Specification 0.4, bindings of the Linux kernel).
package fdt

// Config says which hardware the tree describes.
type Config struct {
	CPUs     int // affinities as KVM gives them to vCPU 0 to CPUs-1
	RAM      []Range
	Bootargs string
	Initrd   Range
	// RNGSeed goes to /chosen/rng-seed and KASLRSeed to /chosen/kaslr-seed; fresh
	// bytes for every start, left out when empty or zero.
	RNGSeed   []byte
	KASLRSeed uint64

	GIC        GIC
	Serial     *Device // 16550A with a register a byte, also stdout
	RTC        *Device // PL031
	GPIO       *Device // PL061
	PowerLine  uint32  // line of GPIO that is the power key
	Watchdog   *Device // SP805
	WatchdogHz uint32  // of its counter
	VirtioMMIO []Device
}

// A Range is a span of guest-physical memory.
type Range struct {
	Base uint64
	Size uint64
}

// A Device is a device in memory space; SPI counts from 0 (INTID 32).
type Device struct {
	Addr uint64
	Size uint64
	SPI  uint32
}

// GIC is the interrupt controller. Version is 2 or 3; Second is the CPU
// interface of version 2, the redistributors of version 3.
type GIC struct {
	Version     int
	Distributor Range
	Second      Range
}
