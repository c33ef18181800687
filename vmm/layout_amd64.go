package vmm

import "warder/devices/guestmem"

// The guest-physical map of an amd64 machine. docs/memory-map.md shows it as a
// table, and a test holds the two together.
const (
	ramBase   = 0
	holeStart = 3 * gib // RAM stops here ...
	holeEnd   = 4 * gib // ... and goes on here

	// hotplugBase is the lowest address of memory that can be plugged.
	hotplugBase = holeEnd

	acpiBase = 0xe0000 // RSDP first: a guest that scans finds it on a 16-byte boundary
	acpiSize = 0x20000
	// resetVector is where a PC starts, in the last 16 bytes of what is kept
	// for firmware.
	resetVector  = 0xffff0
	virtioBase   = 0xd000_0000
	gedBase      = 0xd010_0000
	watchdogBase = 0xd011_0000
	ioapicBase   = 0xfec0_0000
	lapicBase    = 0xfee0_0000

	// KVM on Intel needs four pages below 4 GiB that are nobody's RAM: an
	// identity map and a TSS for real mode.
	identityMapBase = 0xfeff_c000
	tssBase         = 0xfeff_d000

	com1Port = 0x3f8
	cmosPort = 0x70

	com1GSI = 4
	rtcGSI  = 8
	gedGSI  = 9

	// maxCPUs is how many local APICs have an id of 8 bits, in the MADT and in
	// interrupt messages; 255 is all of them.
	maxCPUs = 255

	// trapPort is written by the instruction that a system-call hook puts in
	// place of a kernel function's NOP: out %al, $trapPort.
	trapPort = 0xea
	// hypercallPort takes calls to warder: docs/hypercalls.md.
	hypercallPort = 0xeb
)

// virtioGSIs are the interrupts of the virtio devices, in the order in which
// the devices are added: IOAPIC pins that nothing of the PC has a claim on.
const maxVirtioDevices = 17

var virtioGSIs = [maxVirtioDevices]uint32{5, 6, 7, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23}

func ram(size uint64) []guestmem.Range { return ramRanges(size, ramBase, holeStart, holeEnd) }
