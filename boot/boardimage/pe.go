package boardimage

import (
	"bytes"
	"debug/pe"
	"encoding/binary"
	"errors"
	"fmt"
)

// A section is a named part of a PE program.
type section struct {
	name string // at most 8 bytes
	data []byte
}

// Where fields are (PE Format, "Optional Header Windows-Specific Fields"), from
// the optional header for 64 bits.
const (
	sizeOfInitializedData = 8
	sizeOfImage           = 56
	checkSum              = 64
	coffNumberOfSections  = 2 // from the COFF header
	coffSize              = 20
	sectionHeaderSize     = 40
)

// addSections returns the program with sections added behind its own: in the
// file, in memory when it is loaded, and in its table, in which there has to be
// room for them.
func addSections(program []byte, sections ...section) ([]byte, error) {
	f, err := pe.NewFile(bytes.NewReader(program))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	header, ok := f.OptionalHeader.(*pe.OptionalHeader64)
	if !ok || len(f.Sections) == 0 {
		return nil, errors.New("no PE program for 64 bits")
	}
	le := binary.LittleEndian
	coff := int(le.Uint32(program[0x3c:])) + len("PE\x00\x00")
	optional := coff + coffSize
	table := optional + int(f.SizeOfOptionalHeader) + len(f.Sections)*sectionHeaderSize
	room, memory := header.SizeOfHeaders, uint32(0)
	for _, s := range f.Sections {
		if s.Size > 0 {
			room = min(room, s.Offset)
		}
		memory = max(memory, s.VirtualAddress+max(s.VirtualSize, s.Size))
	}
	if table+len(sections)*sectionHeaderSize > int(room) {
		return nil, fmt.Errorf("no room for %d sections in its table", len(sections))
	}
	const page = 0x1000 // some stubs have less between sections than a page
	unit := max(header.SectionAlignment, page)
	out := pad(bytes.Clone(program), header.FileAlignment)
	for _, s := range sections {
		memory = alignUp(memory, unit)
		h := pe.SectionHeader32{
			VirtualSize: uint32(len(s.data)), VirtualAddress: memory,
			SizeOfRawData: alignUp(uint32(len(s.data)), header.FileAlignment), PointerToRawData: uint32(len(out)),
			Characteristics: pe.IMAGE_SCN_CNT_INITIALIZED_DATA | pe.IMAGE_SCN_MEM_READ,
		}
		if copy(h.Name[:], s.name) < len(s.name) {
			return nil, fmt.Errorf("section %s: the name is too long", s.name)
		}
		if _, err := binary.Encode(out[table:], le, h); err != nil {
			return nil, err
		}
		table += sectionHeaderSize
		memory += h.VirtualSize
		out = pad(append(out, s.data...), header.FileAlignment)
		header.SizeOfInitializedData += h.SizeOfRawData
	}
	le.PutUint16(out[coff+coffNumberOfSections:], uint16(len(f.Sections)+len(sections)))
	le.PutUint32(out[optional+sizeOfInitializedData:], header.SizeOfInitializedData)
	le.PutUint32(out[optional+sizeOfImage:], alignUp(memory, unit))
	le.PutUint32(out[optional+checkSum:], 0)
	return out, nil
}

func alignUp(n, unit uint32) uint32 { return (n + unit - 1) / unit * unit }

func pad(b []byte, unit uint32) []byte {
	return append(b, make([]byte, alignUp(uint32(len(b)), unit)-uint32(len(b)))...)
}
