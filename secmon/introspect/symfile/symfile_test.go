package symfile

import (
	"bytes"
	"debug/elf"
	"io"
	"slices"
	"testing"

	"warder/secmon/introspect"
)

func TestWrite(t *testing.T) {
	symbols := []introspect.Symbol{
		{Name: "fixed_percpu_data", Type: 'A', Addr: 0},
		{Name: "_text", Type: 'T', Addr: 0xffffffff81000000},
		{Name: "helper", Type: 't', Addr: 0xffffffff81000040},
		{Name: "weak", Type: 'W', Addr: 0xffffffff81000080},
		{Name: "table", Type: 'D', Addr: 0xffffffff82000000},
		{Name: "hidden", Type: 'd', Addr: 0xffffffff82000008},
		{Name: "_sinittext", Type: 'T', Addr: 0xffffffff83000000},
	}
	const slide = 0x1c00000
	for arch, machine := range map[string]elf.Machine{"amd64": elf.EM_X86_64, "arm64": elf.EM_AARCH64} {
		var b bytes.Buffer
		if err := write(&b, arch, slide, slices.Values(symbols)); err != nil {
			t.Fatal(err)
		}
		f, err := elf.NewFile(bytes.NewReader(b.Bytes()))
		if err != nil {
			t.Fatal(err)
		}
		if f.Machine != machine || f.Type != elf.ET_EXEC {
			t.Errorf("%v %v", f.Machine, f.Type)
		}
		got, err := f.Symbols()
		if err != nil {
			t.Fatal(err)
		}
		if len(got) != len(symbols) {
			t.Fatalf("%d symbols, want %d", len(got), len(symbols))
		}
		for _, want := range symbols {
			if want.Type != 'A' {
				want.Addr += slide
			}
			i := slices.IndexFunc(got, func(s elf.Symbol) bool { return s.Name == want.Name })
			if i < 0 || got[i].Value != want.Addr {
				t.Errorf("%s: %+v", want.Name, got)
				continue
			}
			s := got[i]
			if local := elf.ST_BIND(s.Info) == elf.STB_LOCAL; local != (want.Type >= 'a' && want.Type <= 'z') {
				t.Errorf("%s: local %v", s.Name, local)
			}
			if want.Type == 'A' {
				if s.Section != elf.SHN_ABS {
					t.Errorf("%s is in section %v", s.Name, s.Section)
				}
				continue
			}
			sec := f.Sections[s.Section]
			code := want.Type != 'D' && want.Type != 'd'
			if s.Value < sec.Addr || s.Value >= sec.Addr+sec.Size || (sec.Flags&elf.SHF_EXECINSTR != 0) != code || (elf.ST_TYPE(s.Info) == elf.STT_FUNC) != code {
				t.Errorf("%s of type %v is in %+v", s.Name, elf.ST_TYPE(s.Info), sec.SectionHeader)
			}
		}
	}
}

// Symbols of modules come after those of the kernel, at addresses before them.
func TestWriteSymbols(t *testing.T) {
	var b bytes.Buffer
	err := WriteSymbols(&b, "arm64", []introspect.Symbol{
		{Name: "_text", Type: 'T', Addr: 0xffff800080000000}, {Name: "init_module", Type: 't', Addr: 0xffff80007a000000},
	})
	if err != nil {
		t.Fatal(err)
	}
	f, err := elf.NewFile(bytes.NewReader(b.Bytes()))
	if err != nil {
		t.Fatal(err)
	}
	got, err := f.Symbols()
	if err != nil || len(got) != 2 || got[0].Name != "init_module" || got[0].Value != 0xffff80007a000000 {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestWriteRefuses(t *testing.T) {
	if write(io.Discard, "riscv64", 0, slices.Values([]introspect.Symbol{})) == nil {
		t.Error("an architecture that is none")
	}
	if write(io.Discard, "amd64", 0, slices.Values([]introspect.Symbol{{Name: "b", Type: 'T', Addr: 2}, {Name: "a", Type: 'T', Addr: 1}})) == nil {
		t.Error("symbols in disorder")
	}
}
