// Package linuxamd64 lays out guest memory for an x86-64 Linux kernel that is
// entered directly, as firmware and boot loader would have left it.
//
// Two protocols are offered: the 64-bit entry of
// Documentation/arch/x86/boot.rst, and PVH (xen/include/public/arch-x86/hvm/start_info.h)
// for kernels that have no usable 64-bit entry.
package linuxamd64

import (
	"errors"
	"fmt"

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
	// RNGSeed seeds the kernel's random numbers; fresh bytes for every start, 32 or
	// more. Kernels before 6.0 and the PVH entry do not look at it.
	RNGSeed []byte
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

// maxSeed keeps the seed off what comes behind it.
const maxSeed = 1024

// Setup lays out the guest that cfg describes. Memory that no segment covers has
// to be zero.
func Setup(cfg Config) (*Layout, error) {
	l, err := setup(&cfg)
	if err != nil {
		return nil, fmt.Errorf("amd64 boot: %w", err)
	}
	return l, nil
}

func setup(cfg *Config) (*Layout, error) {
	if err := checkRAM(cfg.RAM); err != nil {
		return nil, err
	}
	kernel, err := checkKernel(cfg.Kernel, cfg.RAM[0])
	if err != nil {
		return nil, err
	}
	if len(cfg.RNGSeed) > maxSeed {
		return nil, fmt.Errorf("a random seed of %d bytes: at most %d", len(cfg.RNGSeed), maxSeed)
	}
	acpiTables, err := acpi.Build(cfg.Machine)
	if err != nil {
		return nil, err
	}
	tables := boot.Range{Base: cfg.Machine.Base &^ (pageSize - 1)}
	tables.Size = (cfg.Machine.Base+uint64(len(acpiTables))+pageSize-1)&^(pageSize-1) - tables.Base
	if tables.Base < cmdlineAddr+cmdlineMax || overlap(tables, kernel) {
		return nil, fmt.Errorf("ACPI tables at %#x are in the way of the kernel or of what it is handed", tables.Base)
	}
	initrd, err := placeInitrd(initrdSize(cfg.Initrd), cfg.RAM, kernel, tables)
	if err != nil {
		return nil, err
	}
	line, err := cmdline(cfg)
	if err != nil {
		return nil, err
	}
	l := &Layout{Initrd: initrd}
	l.Segments = append(l.Segments, cfg.Kernel.Segments...)
	l.Segments = append(l.Segments, initrdSegments(cfg.Initrd, initrd)...)
	l.Segments = append(l.Segments,
		boot.Segment{Addr: cmdlineAddr, Data: line},
		boot.Segment{Addr: cfg.Machine.Base, Data: acpiTables})
	return l, l.enter(cfg, memoryMap(cfg.RAM, tables))
}

// enter adds what the entry protocol asks for.
func (l *Layout) enter(cfg *Config, memory []mapEntry) error {
	switch k := cfg.Kernel; cfg.Protocol.choose(k) {
	case Linux64:
		if k.Entry == 0 || k.Entry >= mapped {
			return fmt.Errorf("the kernel has no 64-bit entry below 4 GiB (%#x)", k.Entry)
		}
		l.CPU = CPU{
			RIP: k.Entry, RSP: stackTop, RSI: bootParamAddr, RFLAGS: rflagsFixed,
			CR0: cr0PE | cr0ET | cr0NE | cr0PG, CR3: pageTableAddr, CR4: cr4PAE, EFER: eferLME | eferLMA,
		}
		l.CPU.segments(true)
		l.Segments = append(l.Segments, pageTables(),
			boot.Segment{Addr: bootParamAddr, Data: bootParams(cfg, memory, l.Initrd)})
		if len(cfg.RNGSeed) > 0 {
			l.Segments = append(l.Segments, boot.Segment{Addr: seedAddr, Data: setupData(cfg.RNGSeed)})
		}
	case PVH:
		if k.PVHEntry == 0 || k.PVHEntry >= mapped {
			return errors.New("the kernel has no PVH entry (build it with CONFIG_PVH=y)")
		}
		info, err := startInfo(cfg, memory, l.Initrd)
		if err != nil {
			return err
		}
		l.CPU = CPU{RIP: k.PVHEntry, RBX: startInfoAddr, RFLAGS: rflagsFixed, CR0: cr0PE | cr0ET}
		l.CPU.segments(false)
		l.Segments = append(l.Segments, boot.Segment{Addr: startInfoAddr, Data: info})
	default:
		return fmt.Errorf("unknown boot protocol %d", cfg.Protocol)
	}
	l.Segments = append(l.Segments, l.CPU.gdt())
	return nil
}

// choose decides what Auto means for k. A kernel whose ELF entry is its PVH
// entry begins in 32 bits.
func (p Protocol) choose(k *boot.Kernel) Protocol {
	if p != Auto {
		return p
	}
	if k.PVHEntry != 0 && (k.Entry == 0 || k.Entry == k.PVHEntry) {
		return PVH
	}
	return Linux64
}

func overlap(a, b boot.Range) bool { return a.Base < b.End() && b.Base < a.End() }
