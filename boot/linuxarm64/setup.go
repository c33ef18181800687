// Package linuxarm64 lays out guest memory for an arm64 Linux kernel as
// Documentation/arch/arm64/booting.rst asks for.
package linuxarm64

import (
	"errors"
	"fmt"

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

const (
	// kernelAlign is what the kernel is placed at, but for its text offset, and
	// both alignment and size of the device tree's own block: "must not exceed 2
	// megabytes in size", "must not cross a 2 megabyte boundary".
	kernelAlign = 2 << 20
	pageSize    = 4096

	// "If an initrd/initramfs is passed to the kernel at boot, it must reside
	// entirely within a 1 GB aligned physical memory window of up to 32 GB in size
	// that fully covers the kernel Image as well."
	windowAlign = 1 << 30
	windowSize  = 32 << 30

	// pstate is EL1 with its own stack pointer; debug, SError, IRQ and FIQ are
	// masked.
	pstate = 0b1111<<6 | 0b0101
)

// Setup lays out the guest that cfg describes. Memory that no segment covers has
// to be zero.
func Setup(cfg Config) (*Layout, error) {
	l, err := setup(&cfg)
	if err != nil {
		return nil, fmt.Errorf("arm64 boot: %w", err)
	}
	return l, nil
}

func setup(cfg *Config) (*Layout, error) {
	k := cfg.Kernel
	if k.Arch != "arm64" {
		return nil, fmt.Errorf("a kernel for %s on an arm64 machine", k.Arch)
	}
	if len(k.Segments) != 1 || len(k.Segments[0].Data) == 0 || uint64(len(k.Segments[0].Data)) > k.Size {
		return nil, errors.New("an empty kernel")
	}
	if len(cfg.Machine.RAM) == 0 {
		return nil, errors.New("no memory")
	}
	ram := cfg.Machine.RAM[0]
	if ram.Base%kernelAlign != 0 || ram.Base+ram.Size < ram.Base {
		return nil, fmt.Errorf("memory at %#x does not begin at a multiple of 2 MiB", ram.Base)
	}
	// Kernel, then a block of 2 MiB for the device tree, then free memory up to
	// the initramfs at the top.
	offset := k.Segments[0].Addr
	end := ram.Base + ram.Size
	tree := alignUp(ram.Base+offset+k.Size, kernelAlign)
	if k.Size > ram.Size || tree > end || end-tree < kernelAlign {
		return nil, fmt.Errorf("the kernel needs %d MiB, the guest has %d MiB: give it more", (offset+k.Size)>>20, ram.Size>>20)
	}
	initrd, err := placeInitrd(initrdSize(cfg.Initrd), tree+kernelAlign, min(end, ram.Base&^(windowAlign-1)+windowSize))
	if err != nil {
		return nil, err
	}
	machine := cfg.Machine
	machine.Initrd = fdt.Range(initrd)
	blob, err := fdt.Build(machine)
	if err != nil {
		return nil, err
	}
	if len(blob) > kernelAlign {
		return nil, fmt.Errorf("a device tree of %d bytes: at most 2 MiB", len(blob))
	}
	l := &Layout{
		Segments: []boot.Segment{
			{Addr: ram.Base + offset, Data: k.Segments[0].Data},
			{Addr: tree, Data: blob},
		},
		Initrd: initrd,
		CPU:    CPU{PC: ram.Base + offset + k.Entry, X0: tree, PState: pstate},
	}
	addr := initrd.Base
	for _, p := range cfg.Initrd {
		l.Segments = append(l.Segments, boot.Segment{Addr: addr, Data: p})
		addr += alignUp(uint64(len(p)), 4)
	}
	return l, nil
}

// placeInitrd finds size bytes as high as possible between floor and end.
func placeInitrd(size, floor, end uint64) (boot.Range, error) {
	if size == 0 {
		return boot.Range{}, nil
	}
	if base := (end - size) &^ (pageSize - 1); size <= end && base >= floor {
		return boot.Range{Base: base, Size: size}, nil
	}
	return boot.Range{}, fmt.Errorf("an initramfs of %d MiB does not fit into the memory beside the kernel: give the guest more",
		size>>20)
}

func initrdSize(parts [][]byte) (n uint64) {
	for _, p := range parts {
		n += alignUp(uint64(len(p)), 4)
	}
	return n
}

func alignUp(n, to uint64) uint64 { return (n + to - 1) &^ (to - 1) }
