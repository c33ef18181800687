// Package boot opens Linux kernel files: whatever a distribution ships as its
// kernel goes in, the bytes to put into guest memory come out.
//
// It reads x86 bzImage files, ELF vmlinux files, and arm64 Image files that are
// plain, gzip-compressed or wrapped for EFI (zboot). A compressed kernel is
// expanded once on the host, so that the guest's decompressor never runs.
//
// What to do with an opened Kernel is the business of linuxamd64 and
// linuxarm64, which add the tables a guest needs and say in which state a CPU
// has to start.
package boot

import (
	"bytes"
	"regexp"
	"slices"
)

// A Segment is a run of bytes with its place in guest-physical memory.
type Segment struct {
	Addr uint64
	Data []byte
}

// A Range is a span of guest-physical memory.
type Range struct {
	Base uint64
	Size uint64
}

// End is the first address behind r.
func (r Range) End() uint64 { return r.Base + r.Size }

// A Format is how a kernel file is packed.
type Format string

// The formats that Open knows.
const (
	BzImage Format = "bzImage"         // x86 boot protocol, Documentation/arch/x86/boot.rst
	ELF     Format = "ELF vmlinux"     // what the kernel's linker writes
	Image   Format = "arm64 Image"     // Documentation/arch/arm64/booting.rst
	ZBoot   Format = "arm64 EFI zboot" // drivers/firmware/efi/libstub/zboot-header.S
)

// A Kernel is an opened kernel: expanded, checked, ready to be placed.
type Kernel struct {
	Arch        string // "amd64" or "arm64"
	Format      Format // of the file that was opened
	Compression string // "zstd", "gzip", ...; empty when nothing was compressed

	// Segments are the bytes to load. Addr is guest-physical on amd64; on arm64
	// there is one segment, and Addr is its offset from any 2 MiB boundary.
	Segments []Segment
	// Size is the memory that the kernel occupies before it has read its memory
	// map, counted from the lowest segment: image, BSS and early heap, in bytes.
	Size uint64

	// Entry is the address at which a CPU enters: startup_64 on amd64, an offset
	// from the load address on arm64.
	Entry uint64
	// PVHEntry is the 32-bit entry of an amd64 kernel (note XEN_ELFNOTE_PHYS32_ENTRY),
	// or 0 when the kernel has none.
	PVHEntry uint64
	// SetupHeader is the header of an amd64 bzImage as the boot protocol defines
	// it, from offset 0x1f1 of the file; empty for other formats.
	SetupHeader []byte
}

// banner begins linux_banner, which ends with "#1 SMP ..." (init/version-timestamp.c).
var banner = []byte("Linux version ")

// Version is the kernel's banner, "Linux version 6.12...", or "" when the kernel
// has none in plain sight.
func (k *Kernel) Version() string {
	const maxBanner = 512
	for _, s := range k.Segments {
		for data := s.Data; ; data = data[len(banner):] {
			i := bytes.Index(data, banner)
			if i < 0 {
				break
			}
			data = data[i:]
			line, _, ok := bytes.Cut(data[:min(len(data), maxBanner)], []byte{'\n'})
			// Others with the same words lack the build's number or have %s there.
			if ok && isText(line) && numbered.Match(line) {
				return string(line)
			}
		}
	}
	return ""
}

// HasBuiltin tells whether a driver or a file system of that name is part of the kernel
// rather than a module: what registers itself has its name in the image, as a string. A
// name that is there for another reason is taken for that too.
func (k *Kernel) HasBuiltin(name string) bool {
	s := append([]byte(name), 0)
	return slices.ContainsFunc(k.Segments, func(seg Segment) bool { return bytes.Contains(seg.Data, s) })
}

var numbered = regexp.MustCompile(` #[0-9]`)
