// Package symfile writes the symbols of a running kernel as an ELF file, for
// debuggers and profilers that know no other form.
package symfile

import (
	"bytes"
	"cmp"
	"debug/elf"
	"encoding/binary"
	"fmt"
	"io"
	"iter"
	"slices"
	"strings"

	"warder/secmon/introspect"
)

// maxSections bounds the sections, of which symbols hold 16-bit numbers.
const maxSections = int(elf.SHN_LORESERVE) - 8

// sectionEnd is how far a section reaches behind its last symbol, in bytes.
const sectionEnd = 1 << 12

// section is addresses of one kind, without contents: a reader takes them from
// the running kernel.
type section struct {
	code       bool
	start, end uint64
	name       uint32
}

// Write writes the ELF file of a kernel: its own symbols, at the addresses that
// they have in the running guest.
func Write(w io.Writer, g *introspect.Guest) error {
	return write(w, g.Arch(), g.Slide(), g.Symbols().All())
}

// WriteSymbols writes the ELF file of symbols that are where they say, in any
// order.
func WriteSymbols(w io.Writer, arch string, symbols []introspect.Symbol) error {
	sorted := slices.SortedStableFunc(slices.Values(symbols), func(a, b introspect.Symbol) int { return cmp.Compare(a.Addr, b.Addr) })
	return write(w, arch, 0, slices.Values(sorted))
}

// write takes symbols in the order of their addresses; slide is added to all but
// those of type A, which are no addresses.
func write(w io.Writer, arch string, slide uint64, symbols iter.Seq[introspect.Symbol]) error {
	machine, ok := map[string]elf.Machine{"amd64": elf.EM_X86_64, "arm64": elf.EM_AARCH64}[arch]
	if !ok {
		return fmt.Errorf("symfile: no architecture %q", arch)
	}
	var t table
	for s := range symbols {
		if !isAbsolute(s.Type) {
			s.Addr += slide
		}
		if err := t.add(s); err != nil {
			return err
		}
	}
	return t.write(w, machine)
}

// table is the file in the making.
type table struct {
	sections []section
	locals   []elf.Sym64
	globals  []elf.Sym64
	names    bytes.Buffer // .strtab, without its first byte
}

func (t *table) add(s introspect.Symbol) error {
	sym := elf.Sym64{Name: uint32(t.names.Len() + 1), Value: s.Addr}
	t.names.WriteString(strings.ReplaceAll(s.Name, "\x00", ""))
	t.names.WriteByte(0)
	kind := elf.STT_OBJECT
	if isCode(s.Type) {
		kind = elf.STT_FUNC
	}
	if isAbsolute(s.Type) {
		sym.Shndx, kind = uint16(elf.SHN_ABS), elf.STT_NOTYPE
	} else {
		n, err := t.section(s)
		if err != nil {
			return err
		}
		sym.Shndx = uint16(n)
	}
	if s.Type >= 'a' && s.Type <= 'z' && s.Type != 'w' && s.Type != 'v' {
		sym.Info = elf.ST_INFO(elf.STB_LOCAL, kind)
		t.locals = append(t.locals, sym)
	} else {
		sym.Info = elf.ST_INFO(elf.STB_GLOBAL, kind)
		t.globals = append(t.globals, sym)
	}
	return nil
}

func isCode(nm byte) bool { return strings.IndexByte("TtWw", nm) >= 0 }

func isAbsolute(nm byte) bool { return nm == 'A' || nm == 'a' }

// section is the number of the section for a symbol that follows all others.
func (t *table) section(s introspect.Symbol) (int, error) {
	code := isCode(s.Type)
	if n := len(t.sections); n > 0 {
		last := &t.sections[n-1]
		if s.Addr < last.start {
			return 0, fmt.Errorf("symfile: %s at %#x is not in the order of addresses", s.Name, s.Addr)
		}
		if last.code == code {
			last.end = s.Addr + sectionEnd
			return n, nil
		}
		last.end = min(last.end, s.Addr)
		if n == maxSections {
			return 0, fmt.Errorf("symfile: more than %d sections", maxSections)
		}
	}
	t.sections = append(t.sections, section{code: code, start: s.Addr, end: s.Addr + sectionEnd})
	return len(t.sections), nil
}

// write lays the file out: header, symbols, names, section headers.
func (t *table) write(w io.Writer, machine elf.Machine) error {
	const headerSize, symSize, sectionSize = 64, 24, 64
	var sectionNames bytes.Buffer
	sectionNames.WriteByte(0)
	name := func(s string) uint32 {
		at := sectionNames.Len()
		sectionNames.WriteString(s + "\x00")
		return uint32(at)
	}
	for i := range t.sections {
		kind := ".data"
		if t.sections[i].code {
			kind = ".text"
		}
		if i > 1 {
			kind = fmt.Sprint(kind, ".", i)
		}
		t.sections[i].name = name(kind)
	}
	symtab, strtab, shstrtab := name(".symtab"), name(".strtab"), name(".shstrtab")

	symbols := 1 + len(t.locals) + len(t.globals)
	symAt := uint64(headerSize)
	strAt := symAt + uint64(symbols)*symSize
	strLen := uint64(1 + t.names.Len())
	shstrAt := strAt + strLen
	sectionsAt := (shstrAt + uint64(sectionNames.Len()) + 7) &^ 7
	n := len(t.sections)

	var b bytes.Buffer
	put := func(v any) { binary.Write(&b, binary.LittleEndian, v) } // a bytes.Buffer takes all
	put(elf.Header64{
		Ident: [elf.EI_NIDENT]byte{0x7f, 'E', 'L', 'F', byte(elf.ELFCLASS64), byte(elf.ELFDATA2LSB), byte(elf.EV_CURRENT)},
		Type:  uint16(elf.ET_EXEC), Machine: uint16(machine), Version: uint32(elf.EV_CURRENT),
		Shoff: sectionsAt, Ehsize: headerSize, Shentsize: sectionSize, Shnum: uint16(n + 4), Shstrndx: uint16(n + 3),
	})
	put(elf.Sym64{})
	put(t.locals)
	put(t.globals)
	b.WriteByte(0)
	b.Write(t.names.Bytes())
	b.Write(sectionNames.Bytes())
	b.Write(make([]byte, sectionsAt-uint64(b.Len())))
	put(elf.Section64{})
	for _, s := range t.sections {
		flags := elf.SHF_ALLOC | elf.SHF_WRITE
		if s.code {
			flags = elf.SHF_ALLOC | elf.SHF_EXECINSTR
		}
		put(elf.Section64{Name: s.name, Type: uint32(elf.SHT_NOBITS), Flags: uint64(flags), Addr: s.start, Off: headerSize, Size: s.end - s.start, Addralign: 1})
	}
	put(elf.Section64{Name: symtab, Type: uint32(elf.SHT_SYMTAB), Off: symAt, Size: uint64(symbols) * symSize,
		Link: uint32(n + 2), Info: uint32(1 + len(t.locals)), Addralign: 8, Entsize: symSize})
	put(elf.Section64{Name: strtab, Type: uint32(elf.SHT_STRTAB), Off: strAt, Size: strLen, Addralign: 1})
	put(elf.Section64{Name: shstrtab, Type: uint32(elf.SHT_STRTAB), Off: shstrAt, Size: uint64(sectionNames.Len()), Addralign: 1})
	_, err := w.Write(b.Bytes())
	return err
}
