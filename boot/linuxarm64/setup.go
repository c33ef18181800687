// Package linuxarm64 lays out guest memory for an arm64 Linux kernel as
// Documentation/arch/arm64/booting.rst asks for.
package linuxarm64

import (
	"errors"

	"warder/boot"
	"warder/boot/fdt"
)

// Config says what the guest consists of.
type Config struct {
	Kernel *boot.Kernel
	// Initrd are the parts of the initramfs, put one behind the other, each
	// padded to 4 bytes.
	Initrd [][]byte
	// Machine describes the hardware, the memory and the command line. Its first
	// RAM range holds the kernel, the device tree and the initramfs; Setup fills
	// in Machine.Initrd.
	Machine fdt.Config
}

// A Layout is a guest that is ready to run.
type Layout struct {
	Segments []boot.Segment // to be written into guest memory
	Initrd   boot.Range     // empty when there is none
	CPU      CPU            // state in which the first CPU enters; the others wait for PSCI CPU_ON
}

// CPU is the part of a CPU's state that the protocol prescribes; X1 to X3 are
// zero.
type CPU struct {
	PC     uint64
	X0     uint64 // the device tree
	PState uint64 // EL1h, interrupts masked
}

// Setup lays out the guest that cfg describes.
func Setup(cfg Config) (*Layout, error) { return nil, errors.ErrUnsupported }
