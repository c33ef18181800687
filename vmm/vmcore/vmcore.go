// Package vmcore writes a machine's memory as an ELF core file, the form that
// crash(8), gdb(1) and other tools for kernel dumps read.
//
// The file has the physical memory as loadable segments, each vCPU's registers
// as an NT_PRSTATUS note, and the kernel's own VMCOREINFO note, as one that
// kdump makes (Documentation/admin-guide/kdump). It needs no seeking: it can go
// down a pipe.
package vmcore

import (
	"debug/elf"
	"encoding/binary"
	"fmt"
	"io"

	"warder/devices/guestmem"
)

// Core is what goes into a file.
type Core struct {
	Arch string // "amd64" or "arm64"
	// Memory is the guest's RAM. It may change while it is written, unless its
	// machine is paused.
	Memory *guestmem.Memory
	// CPUs are the registers of each vCPU by name, as vmm.Register has them.
	CPUs []map[string]uint64
	// Info is the kernel's VMCOREINFO, nil if it is not known.
	Info []byte
	// Mapped are ranges of kernel addresses, for tools that go by these.
	Mapped []Mapping
}

// Mapping says that Size bytes at a virtual address are those at a physical one.
type Mapping struct {
	Virtual  uint64
	Physical guestmem.Addr
	Size     uint64 // bytes
}

var machines = map[string]elf.Machine{"amd64": elf.EM_X86_64, "arm64": elf.EM_AARCH64}

// pageSize is what segments in the file are aligned to.
const pageSize = 4096

var le = binary.LittleEndian

// Write writes the file.
func (c *Core) Write(w io.Writer) error {
	machine, ok := machines[c.Arch]
	if !ok {
		return fmt.Errorf("vmcore: no core files of architecture %q are known", c.Arch)
	}
	notes, err := c.notes()
	if err != nil {
		return fmt.Errorf("vmcore: %w", err)
	}
	segments := c.segments()
	const headerSize, segmentSize = 64, 56
	programs := 1 + len(segments)
	notesAt := uint64(headerSize + segmentSize*programs)
	dataAt := alignUp(notesAt+uint64(len(notes)), pageSize)

	header := elf.Header64{
		Type: uint16(elf.ET_CORE), Machine: uint16(machine), Version: uint32(elf.EV_CURRENT),
		Phoff: headerSize, Ehsize: headerSize, Phentsize: segmentSize, Phnum: uint16(programs),
	}
	copy(header.Ident[:], elf.ELFMAG)
	header.Ident[elf.EI_CLASS], header.Ident[elf.EI_DATA] = byte(elf.ELFCLASS64), byte(elf.ELFDATA2LSB)
	header.Ident[elf.EI_VERSION] = byte(elf.EV_CURRENT)
	put := func(v any) {
		if err == nil {
			err = binary.Write(w, le, v)
		}
	}
	put(header)
	put(elf.Prog64{Type: uint32(elf.PT_NOTE), Off: notesAt, Filesz: uint64(len(notes)), Memsz: uint64(len(notes)), Align: 4})
	for _, s := range segments {
		put(elf.Prog64{
			Type: uint32(elf.PT_LOAD), Flags: uint32(elf.PF_R | elf.PF_W | elf.PF_X), Off: dataAt + s.offset,
			Vaddr: s.virtual, Paddr: s.physical, Filesz: s.size, Memsz: s.size, Align: 0,
		})
	}
	put(notes)
	put(make([]byte, dataAt-notesAt-uint64(len(notes))))
	if err != nil {
		return fmt.Errorf("vmcore: %w", err)
	}
	return c.memory(w)
}

// memory writes all regions, one after the other.
func (c *Core) memory(w io.Writer) error {
	// A copy of a piece at a time: what the guest changes meanwhile is then not
	// under the writer's hands.
	buf := make([]byte, 1<<20)
	for _, r := range c.Memory.Regions() {
		for off := 0; off < len(r.Bytes); off += len(buf) {
			p := buf[:min(len(buf), len(r.Bytes)-off)]
			// Blocks that are not plugged read as zeros, which they are.
			if c.Memory.ReadAt(p, r.Base+guestmem.Addr(off)) != nil {
				clear(p)
			}
			if _, err := w.Write(p); err != nil {
				return fmt.Errorf("vmcore: %w", err)
			}
		}
	}
	return nil
}

type segment struct{ virtual, physical, size, offset uint64 }

// segments are the kernel's ranges that are wholly in one region, then the
// regions. All share the bytes of the regions.
func (c *Core) segments() []segment {
	var regions, all []segment
	offset := uint64(0)
	for _, r := range c.Memory.Regions() {
		regions = append(regions, segment{0, uint64(r.Base), uint64(len(r.Bytes)), offset})
		offset += uint64(len(r.Bytes))
	}
	for _, m := range c.Mapped {
		for i := range regions {
			r := &regions[i]
			in := uint64(m.Physical) - r.physical
			if uint64(m.Physical) < r.physical || in >= r.size || m.Size > r.size-in {
				continue
			}
			if in == 0 && m.Size == r.size && r.virtual == 0 {
				r.virtual = m.Virtual // the region's own address
				continue
			}
			all = append(all, segment{m.Virtual, uint64(m.Physical), m.Size, r.offset + in})
		}
	}
	return append(all, regions...)
}

func alignUp(n, to uint64) uint64 { return (n + to - 1) / to * to }
