package introspect

import (
	"errors"
	"fmt"
)

// ErrNotLinked is the error for an image that does not tell at which address its
// kernel was linked.
var ErrNotLinked = errors.New("the kernel's image does not tell where it was linked")

// Linked is the kernel of a guest that runs it where it was linked: one that was
// told "nokaslr". The error wraps [ErrNotLinked].
func (k *Kernel) Linked() (*Guest, error) {
	if k.arch == "arm64" && k.linked == 0 {
		return nil, fmt.Errorf("introspect: %w", ErrNotLinked)
	}
	return k.at(k.linked)
}

// An arm64 Image is relocated at boot, also when it does not move: the addresses of its
// symbol table count from its first byte. Where it was linked is in what is to be
// relocated: pointers with their relocations in .rela.dyn, struct Elf64_Rela, or
// in .relr.dyn, which has them at their places in the image. The pointer looked
// at is the first of the table of system calls.
const (
	firstCall       = "__arm64_sys_io_setup"
	relaSize        = 24
	relaRelative    = 1027 // R_AARCH64_RELATIVE
	kernelAddresses = 0xffff << 48
)

// linkAddress is the link address of an arm64 Image's first byte, 0 where it is
// not found.
func linkAddress(im *image, syms *Symbols) uint64 {
	table, err := syms.Addr("sys_call_table")
	if err != nil {
		return 0
	}
	call, err := syms.Addr(firstCall)
	if err != nil {
		return 0
	}
	sound := func(base uint64) bool { return base >= kernelAddresses && base%4096 == 0 }
	if p := im.bytes(table, 8); p != nil {
		if base := le.Uint64(p) - call; sound(base) {
			return base
		}
	}
	for _, seg := range im.segments {
		for at := 0; at+relaSize <= len(seg.data); at += 8 {
			if le.Uint64(seg.data[at+8:]) != relaRelative {
				continue
			}
			where, value := le.Uint64(seg.data[at:]), le.Uint64(seg.data[at+16:])
			if base := where - table; value-where == call-table && sound(base) {
				return base
			}
		}
	}
	return 0
}
