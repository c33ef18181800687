// Package vmlinux reads the ELF file that the linker of the Linux kernel writes
// for x86-64.
package vmlinux

import (
	"bytes"
	"cmp"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
)

const (
	ehdrSize = 64
	phdrSize = 56

	maxHeaders = 64       // a kernel has five
	maxMemory  = 1 << 30  // what a kernel may occupy; the largest seen has 100 MiB
	maxNotes   = 64 << 10 // bytes of one PT_NOTE
	maxAddr    = 64 << 30 // where a kernel may be; the usual place is 16 MiB
	pageSize   = 4096

	notePhys32Entry = 18 // XEN_ELFNOTE_PHYS32_ENTRY, xen/include/public/elfnote.h
)

// ErrFormat is returned for a file that is no ELF file.
var ErrFormat = errors.New("no ELF file")

// A File is an opened kernel.
type File struct {
	Segments []Segment // by address, without overlap
	Entry    uint64    // physical address of startup_64, 0 when there is none
	PVHEntry uint64    // physical address of the 32-bit PVH entry, 0 when there is none
}

// A Segment is a run of bytes at a physical address. Memory from there to Size
// that Data does not cover is zero.
type Segment struct {
	Addr uint64
	Size uint64
	Data []byte
}

// Detect tells whether head is the beginning of an ELF file.
func Detect(head []byte) bool { return bytes.HasPrefix(head, []byte(elf.ELFMAG)) }

// A Place gives the n bytes of memory that what belongs at addr is read into.
type Place func(addr, n uint64) []byte

// Parse reads the kernel in the size bytes of r, each segment into memory that
// place gives.
func Parse(r io.ReaderAt, size int64, place Place) (*File, error) {
	var h elf.Header64
	if err := read(r, 0, ehdrSize, &h); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrFormat, err)
	}
	if err := check(&h); err != nil {
		return nil, err
	}
	progs := make([]elf.Prog64, h.Phnum)
	if err := read(r, h.Phoff, int(h.Phnum)*phdrSize, &progs); err != nil {
		return nil, fmt.Errorf("ELF program headers: %w", err)
	}
	f := new(File)
	if err := f.load(r, size, progs, place); err != nil {
		return nil, err
	}
	for _, p := range progs {
		if elf.ProgType(p.Type) != elf.PT_NOTE || f.PVHEntry != 0 {
			continue
		}
		if p.Filesz > maxNotes {
			return nil, fmt.Errorf("ELF notes of %d bytes; at most %d are accepted", p.Filesz, maxNotes)
		}
		buf := make([]byte, p.Filesz)
		if err := readAt(r, buf, p.Off); err != nil {
			return nil, fmt.Errorf("ELF notes: %w", err)
		}
		f.PVHEntry = pvhEntry(buf)
	}
	f.Entry, f.PVHEntry = physical(progs, h.Entry), physical(progs, f.PVHEntry)
	if f.Entry == 0 && f.PVHEntry == 0 {
		return nil, fmt.Errorf("an ELF file without an entry (%#x is in no segment): no kernel", h.Entry)
	}
	return f, nil
}

// check refuses what cannot be an x86-64 kernel.
func check(h *elf.Header64) error {
	id := h.Ident
	if !Detect(id[:]) {
		return ErrFormat
	}
	machine := elf.Machine(h.Machine)
	if class := elf.Class(id[elf.EI_CLASS]); class != elf.ELFCLASS64 {
		return fmt.Errorf("a 32-bit ELF file (%v): give a 64-bit kernel", machine)
	}
	if elf.Data(id[elf.EI_DATA]) != elf.ELFDATA2LSB {
		return fmt.Errorf("a big-endian ELF file (%v): give a kernel for amd64 or arm64", machine)
	}
	switch machine {
	case elf.EM_X86_64:
	case elf.EM_AARCH64:
		return errors.New("an arm64 ELF file: give the kernel's arch/arm64/boot/Image (vmlinuz in packages) instead")
	default:
		return fmt.Errorf("an ELF file for another machine (%v): give a kernel for amd64 or arm64", machine)
	}
	switch t := elf.Type(h.Type); t {
	case elf.ET_EXEC, elf.ET_DYN:
	case elf.ET_REL:
		return errors.New("an ELF object file or kernel module: give the kernel itself (vmlinux or vmlinuz)")
	default:
		return fmt.Errorf("an ELF file of type %v: give the kernel itself (vmlinux or vmlinuz)", t)
	}
	if h.Phentsize != phdrSize || h.Phnum == 0 || h.Phnum > maxHeaders {
		return fmt.Errorf("an ELF file with %d program headers of %d bytes: no kernel", h.Phnum, h.Phentsize)
	}
	return nil
}

func (f *File) load(r io.ReaderAt, size int64, progs []elf.Prog64, place Place) error {
	var total uint64
	for _, p := range progs {
		switch elf.ProgType(p.Type) {
		case elf.PT_INTERP, elf.PT_PHDR, elf.PT_TLS: // what only a C library or runtime looks at
			return errors.New("an ELF program for user space: give the kernel itself (vmlinux or vmlinuz)")
		case elf.PT_LOAD:
		default:
			continue
		}
		if p.Memsz == 0 {
			continue
		}
		if p.Filesz > p.Memsz || p.Memsz > maxMemory || p.Paddr > maxAddr {
			return fmt.Errorf("ELF segment at %#x with %d bytes in the file and %d in memory: no kernel", p.Paddr, p.Filesz, p.Memsz)
		}
		if total += p.Memsz; total > maxMemory {
			return fmt.Errorf("ELF segments of more than %d bytes: no kernel", maxMemory)
		}
		if p.Off > uint64(size) || p.Filesz > uint64(size)-p.Off {
			return fmt.Errorf("ELF file is cut short: a segment is the %d bytes from %d, the file has %d bytes", p.Filesz, p.Off, size)
		}
		data := place(p.Paddr, p.Filesz)
		if err := readAt(r, data, p.Off); err != nil {
			return fmt.Errorf("ELF segment: %w", err)
		}
		f.Segments = append(f.Segments, Segment{Addr: p.Paddr, Size: p.Memsz, Data: trim(data)})
	}
	if len(f.Segments) == 0 {
		return errors.New("an ELF file with nothing to load: no kernel")
	}
	slices.SortFunc(f.Segments, func(a, b Segment) int { return cmp.Compare(a.Addr, b.Addr) })
	for i, s := range f.Segments[1:] {
		if prev := f.Segments[i]; prev.Addr+prev.Size > s.Addr {
			return fmt.Errorf("ELF segments at %#x and %#x overlap: no kernel", prev.Addr, s.Addr)
		}
	}
	return nil
}

// trim drops pages of zeros from the end: the last segment of a kernel holds its
// BSS, and a page that is not written costs the guest no memory.
func trim(p []byte) []byte {
	var zero [pageSize]byte
	for len(p) >= pageSize && bytes.Equal(p[len(p)-pageSize:], zero[:]) {
		p = p[:len(p)-pageSize]
	}
	return p
}

// physical translates addr, which a linker script may have given as a physical
// or as a virtual address; 0 when it is in no segment.
func physical(progs []elf.Prog64, addr uint64) uint64 {
	if addr == 0 {
		return 0 // the area of per-CPU variables is linked to 0
	}
	for _, p := range progs {
		if elf.ProgType(p.Type) == elf.PT_LOAD && addr >= p.Paddr && addr-p.Paddr < p.Filesz {
			return addr
		}
	}
	for _, p := range progs {
		if elf.ProgType(p.Type) == elf.PT_LOAD && addr >= p.Vaddr && addr-p.Vaddr < p.Filesz {
			return addr - p.Vaddr + p.Paddr
		}
	}
	return 0
}

// pvhEntry finds the PVH entry among ELF notes, 0 when there is none.
func pvhEntry(notes []byte) uint64 {
	le := binary.LittleEndian
	for len(notes) >= 12 {
		namesz, descsz, typ := uint64(le.Uint32(notes)), uint64(le.Uint32(notes[4:])), le.Uint32(notes[8:])
		name := uint64(12)
		desc := name + align4(namesz)
		next := desc + align4(descsz)
		if next > uint64(len(notes)) {
			return 0
		}
		if typ == notePhys32Entry && string(notes[name:name+namesz]) == "Xen\x00" {
			switch d := notes[desc : desc+descsz]; len(d) {
			case 4:
				return uint64(le.Uint32(d))
			case 8:
				return le.Uint64(d)
			}
		}
		notes = notes[next:]
	}
	return 0
}

func align4(n uint64) uint64 { return (n + 3) &^ 3 }

func read(r io.ReaderAt, off uint64, n int, v any) error {
	buf := make([]byte, n)
	if err := readAt(r, buf, off); err != nil {
		return err
	}
	_, err := binary.Decode(buf, binary.LittleEndian, v)
	return err
}

func readAt(r io.ReaderAt, p []byte, off uint64) error {
	if off > 1<<62 {
		return io.ErrUnexpectedEOF
	}
	n, err := r.ReadAt(p, int64(off))
	if n == len(p) {
		return nil
	}
	if err == nil || errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return err
}
