package vmlinux

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"slices"
	"strings"
	"testing"

	"warder/internal/testkernel"
)

func parse(file []byte) (*File, error) {
	return Parse(bytes.NewReader(file), int64(len(file)), func(_, n uint64) []byte { return make([]byte, n) })
}

// build makes a kernel of segments, whose bytes are all 1.
func build(entry uint64, progs ...elf.Prog64) []byte {
	off := uint64(ehdrSize + phdrSize*len(progs))
	h := elf.Header64{
		Ident: [16]byte{0x7f, 'E', 'L', 'F', byte(elf.ELFCLASS64), byte(elf.ELFDATA2LSB), 1},
		Type:  uint16(elf.ET_EXEC), Machine: uint16(elf.EM_X86_64), Version: 1,
		Entry: entry, Phoff: ehdrSize, Ehsize: ehdrSize, Phentsize: phdrSize, Phnum: uint16(len(progs)),
	}
	b := testkernel.Concat(h)
	var body []byte
	for _, p := range progs {
		if p.Off == 0 {
			p.Off = off + uint64(len(body))
			body = append(body, bytes.Repeat([]byte{1}, int(min(p.Filesz, 1<<20)))...)
		}
		b = append(b, testkernel.Concat(p)...)
	}
	return append(b, body...)
}

func load(paddr, filesz, memsz uint64) elf.Prog64 {
	return elf.Prog64{Type: uint32(elf.PT_LOAD), Paddr: paddr, Vaddr: paddr + 0xffffffff80000000, Filesz: filesz, Memsz: memsz}
}

func TestParse(t *testing.T) {
	// Out of order, with an empty one, as no linker has to care.
	f, err := parse(build(0xffffffff81000010, load(0x2000000, 0x1000, 0x5000), load(0x1000000, 0x2000, 0x2000), load(0x9000000, 0, 0)))
	if err != nil {
		t.Fatal(err)
	}
	if f.Entry != 0x1000010 || f.PVHEntry != 0 || len(f.Segments) != 2 {
		t.Errorf("%+v", f)
	}
	if s := f.Segments; s[0].Addr != 0x1000000 || s[1].Addr != 0x2000000 || s[1].Size != 0x5000 || len(s[1].Data) != 0x1000 {
		t.Errorf("segments %+v", s)
	}
}

// TestParseTrims drops pages of zeros at the end, no others.
func TestParseTrims(t *testing.T) {
	file := build(0x1000000, load(0x1000000, 5*pageSize, 6*pageSize))
	data := file[len(file)-5*pageSize:]
	clear(data[pageSize : 2*pageSize])
	clear(data[2*pageSize+1:])
	f, err := parse(file)
	if err != nil {
		t.Fatal(err)
	}
	if s := f.Segments[0]; len(s.Data) != 3*pageSize || s.Size != 6*pageSize {
		t.Errorf("%d bytes of %d", len(s.Data), s.Size)
	}
}

func TestParseRefuses(t *testing.T) {
	good := load(0x1000000, 0x1000, 0x1000)
	manyHeaders := build(0x1000000, slices.Repeat([]elf.Prog64{good}, maxHeaders+1)...)
	cut := build(0x1000000, good)
	atEnd := good
	atEnd.Off = 1 << 63
	notes := elf.Prog64{Type: uint32(elf.PT_NOTE), Filesz: maxNotes + 1}
	interpreter := elf.Prog64{Type: uint32(elf.PT_INTERP), Filesz: 1}
	threadLocal := elf.Prog64{Type: uint32(elf.PT_TLS)}
	for name, c := range map[string]struct {
		file []byte
		want string
	}{
		"nothing to load":     {build(0x1000000, notes), "nothing to load"},
		"no headers":          {build(0x1000000), "0 program headers"},
		"many headers":        {manyHeaders, "65 program headers"},
		"headers cut":         {build(0x1000000, good)[:80], "program headers"},
		"cut":                 {cut[:len(cut)-1], "cut short"},
		"beyond the end":      {build(0x1000000, atEnd), "cut short"},
		"entry nowhere":       {build(0x5000000, good), "without an entry"},
		"overlap":             {build(0x1000000, good, load(0x1000800, 0x100, 0x100)), "overlap"},
		"overlap of zeros":    {build(0x1000000, load(0x1000000, 0x1000, 0x3000), load(0x1002000, 0x100, 0x100)), "overlap"},
		"more file than room": {build(0x1000000, load(0x1000000, 0x1000, 0x800)), "no kernel"},
		"huge":                {build(0x1000000, load(0x1000000, 0x1000, maxMemory+1)), "no kernel"},
		"huge together":       {build(0x1000000, load(0x1000000, 1, maxMemory), load(0x80000000, 1, 1)), "no kernel"},
		"too high":            {build(0x1000000, load(maxAddr+1, 0x1000, 0x1000)), "no kernel"},
		"many notes":          {build(0x1000000, good, notes), "ELF notes"},
		"program":             {build(0x1000000, good, interpreter), "user space"},
		"static program":      {build(0x1000000, threadLocal, good), "user space"},
		"no ELF":              {bytes.Repeat([]byte{1}, 100), ErrFormat.Error()},
		"short":               {[]byte("\x7fELF"), ErrFormat.Error()},
	} {
		if _, err := parse(c.file); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error is %v; want it to say %q", name, err, c.want)
		}
	}
}

func note(name string, typ uint32, desc []byte) []byte {
	pad := func(b []byte) []byte { return append(b, make([]byte, -len(b)&3)...) }
	b := binary.LittleEndian.AppendUint32(nil, uint32(len(name)))
	b = binary.LittleEndian.AppendUint32(b, uint32(len(desc)))
	b = binary.LittleEndian.AppendUint32(b, typ)
	return slices.Concat(b, pad([]byte(name)), pad(desc))
}

func TestPVHEntry(t *testing.T) {
	xen4 := note("Xen\x00", notePhys32Entry, []byte{1, 2, 3, 4})
	for name, c := range map[string]struct {
		notes []byte
		want  uint64
	}{
		"none":         {nil, 0},
		"4 bytes":      {xen4, 0x04030201},
		"8 bytes":      {note("Xen\x00", notePhys32Entry, []byte{1, 0, 0, 0, 1, 0, 0, 0}), 0x100000001},
		"behind":       {slices.Concat(note("Linux\x00", 257, []byte("6.12.1\x00")), note("Xen\x00", 6, []byte("linux\x00")), xen4), 0x04030201},
		"other name":   {note("GNU\x00", notePhys32Entry, []byte{1, 2, 3, 4}), 0},
		"odd size":     {note("Xen\x00", notePhys32Entry, []byte{1, 2, 3}), 0},
		"cut":          {xen4[:len(xen4)-1], 0},
		"name outside": {append(binary.LittleEndian.AppendUint32(nil, 1<<32-1), make([]byte, 20)...), 0},
		"desc outside": {append([]byte{4, 0, 0, 0, 0xff, 0xff, 0xff, 0xff}, make([]byte, 20)...), 0},
	} {
		if got := pvhEntry(c.notes); got != c.want {
			t.Errorf("%s: %#x, want %#x", name, got, c.want)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add(testkernel.ELF())
	f.Add(build(0x1000000, load(0x1000000, 0x1000, 0x2000), load(0x2000000, 0x100, 0x100)))
	f.Fuzz(func(t *testing.T, file []byte) {
		k, err := parse(file)
		if err != nil {
			return
		}
		end, bytes := uint64(0), 0
		for _, s := range k.Segments {
			if s.Addr < end || uint64(len(s.Data)) > s.Size {
				t.Fatalf("segment %#x of %#x with %d bytes, behind %#x", s.Addr, s.Size, len(s.Data), end)
			}
			end = s.Addr + s.Size
			bytes += len(s.Data)
		}
		if bytes > maxHeaders*len(file) {
			t.Fatalf("%d bytes of a file of %d", bytes, len(file))
		}
	})
}
