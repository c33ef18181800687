// Package linuxamd64 lays out guest memory for an x86-64 Linux kernel that is
// entered directly, as firmware and boot loader would have left it.
//
// Two protocols are offered: the 64-bit entry of
// Documentation/arch/x86/boot.rst, and PVH (xen/include/public/arch-x86/hvm/start_info.h)
// for kernels that have no usable 64-bit entry.
package linuxamd64

import (
	"errors"

	"warder/boot"
	"warder/boot/acpi"
)

// A Protocol is a way into the kernel.
type Protocol int

const (
	Auto    Protocol = iota // the 64-bit entry where there is one, else PVH
	Linux64                 // long mode, RSI = boot_params
	PVH                     // protected mode, EBX = hvm_start_info
)

// Config says what the guest consists of.
type Config struct {
	Kernel   *boot.Kernel
	Protocol Protocol
	// RAM is the guest's memory in ascending order; the first range starts at 0
	// and holds the kernel, its tables and the initramfs.
	RAM     []boot.Range
	Cmdline string
	// Initrd are the parts of the initramfs, put one behind the other, each
	// padded to 4 bytes.
	Initrd [][]byte
	// Machine describes the hardware; its tables go to Machine.Base.
	Machine acpi.Config
}

// A Layout is a guest that is ready to run.
type Layout struct {
	Segments []boot.Segment // to be written into guest memory
	Initrd   boot.Range     // empty when there is none
	CPU      CPU            // state in which the first CPU enters; the others wait for SIPI
}

// CPU is the part of a CPU's state that the entry protocol prescribes. General
// registers not named here are zero.
type CPU struct {
	RIP, RSP, RSI, RBX, RFLAGS uint64
	CR0, CR3, CR4, EFER        uint64
	CS, DS, SS, ES, FS, GS, TR Selector
	GDT                        DescriptorTable
	IDT                        DescriptorTable
}

// A Selector is a segment register with its hidden part, in the terms of the
// Intel SDM, volume 3, section 3.4.5.
type Selector struct {
	Selector    uint16
	Base        uint64
	Limit       uint32 // in bytes, granularity applied
	Type        uint8  // 4 bits
	DPL         uint8
	Present     bool
	System      bool // false: code or data (descriptor bit S set)
	Long        bool // L: 64-bit code
	Big         bool // D/B: 32-bit default
	Granularity bool // G: limit in pages
}

// A DescriptorTable is the content of GDTR or IDTR.
type DescriptorTable struct {
	Base  uint64
	Limit uint16
}

// Setup lays out the guest that cfg describes.
func Setup(cfg Config) (*Layout, error) { return nil, errors.ErrUnsupported }
