package vmcore

import (
	"bytes"
	"debug/elf"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"warder/devices/guestmem"
	"warder/internal/oracle"
)

const (
	low  = 0x4000_0000
	high = 0x1_0000_0000
	text = 0xffff_ffff_8100_0000
)

// sample is a machine of two regions and two vCPUs.
func sample(t *testing.T, arch string) *Core {
	t.Helper()
	a, b := make([]byte, 64<<10), make([]byte, 32<<10)
	copy(a[0x2000:], "a banner in the kernel's text\x00")
	copy(b[0x10:], "high\x00")
	mem, err := guestmem.New(guestmem.Region{Base: low, Bytes: a}, guestmem.Region{Base: high, Bytes: b})
	if err != nil {
		t.Fatal(err)
	}
	c := &Core{Arch: arch, Memory: mem, Info: []byte("OSRELEASE=6.12\nPAGESIZE=4096\n"), Mapped: []Mapping{
		{text, low + 0x2000, 0x1000}, {0xffff_8880_4000_0000, low, 64 << 10}, {0xffff_8881_0000_0000, high, 32 << 10},
		{0xffff_0000_0000_0000, low + 0xf000, 0x2000}, // reaches beyond its region
	}}
	for id := range uint64(2) {
		regs := make(map[string]uint64)
		for i, name := range general[arch] {
			regs[name] = id<<32 | uint64(i+1)
		}
		c.CPUs = append(c.CPUs, regs)
	}
	return c
}

func TestCore(t *testing.T) {
	for arch, machine := range machines {
		var b bytes.Buffer
		if err := sample(t, arch).Write(&b); err != nil {
			t.Fatal(err)
		}
		f, err := elf.NewFile(bytes.NewReader(b.Bytes()))
		if err != nil {
			t.Fatal(err)
		}
		if f.Type != elf.ET_CORE || f.Machine != machine {
			t.Errorf("%v for %v", f.Type, f.Machine)
		}
		var got []string
		for _, p := range f.Progs {
			got = append(got, fmt.Sprintf("%v %#x %#x %#x", p.Type, p.Vaddr, p.Paddr, p.Filesz))
			if uint64(b.Len()) < p.Off+p.Filesz {
				t.Errorf("%v reaches beyond the file of %d bytes", p.ProgHeader, b.Len())
			}
		}
		want := []string{
			fmt.Sprintf("PT_NOTE 0x0 0x0 %#x", f.Progs[0].Filesz),
			"PT_LOAD 0xffffffff81000000 0x40002000 0x1000",
			"PT_LOAD 0xffff888040000000 0x40000000 0x10000",
			"PT_LOAD 0xffff888100000000 0x100000000 0x8000",
		}
		if strings.Join(got, "\n") != strings.Join(want, "\n") {
			t.Errorf("segments\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
		for i, begin := range map[int]string{1: "a banner", 3: strings.Repeat("\x00", 16) + "high"} {
			p, err := io.ReadAll(f.Progs[i].Open())
			if err != nil || !bytes.HasPrefix(p, []byte(begin)) {
				t.Errorf("segment %d begins with %q, %v", i, p[:min(16, len(p))], err)
			}
		}
		notes, err := io.ReadAll(f.Progs[0].Open())
		if err != nil || bytes.Count(notes, []byte("CORE\x00")) != 2 || !bytes.Contains(notes, []byte("VMCOREINFO\x00\x00OSRELEASE=6.12\n")) {
			t.Errorf("notes %q, %v", notes, err)
		}
	}
}

func TestCoreFails(t *testing.T) {
	if err := (&Core{Arch: "riscv64"}).Write(io.Discard); err == nil {
		t.Error("a core of an unknown architecture")
	}
	c := sample(t, "amd64")
	delete(c.CPUs[1], "rip")
	if err := c.Write(io.Discard); err == nil || !strings.Contains(err.Error(), "rip") {
		t.Errorf("without a register: %v", err)
	}
	c = sample(t, "amd64")
	if err := c.Write(broken{}); err == nil {
		t.Error("a writer that fails")
	}
}

type broken struct{}

func (broken) Write([]byte) (int, error) { return 0, io.ErrClosedPipe }

// TestGDBOpens has gdb read memory by the kernel's addresses, and registers.
func TestGDBOpens(t *testing.T) {
	gdb := oracle.Command(t, "gdb-multiarch", "gdb-multiarch")
	for arch, regs := range map[string][2]string{"amd64": {"$r15", "$rip"}, "arm64": {"$x0", "$pc"}} {
		t.Run(arch, func(t *testing.T) { opens(t, gdb, arch, regs) })
	}
}

func opens(t *testing.T, gdb, arch string, regs [2]string) {
	path := filepath.Join(t.TempDir(), "core")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := sample(t, arch).Write(f); err != nil {
		t.Fatal(err)
	}
	f.Close()
	out, err := exec.CommandContext(t.Context(), gdb, "-nx", "-batch", "-core", path, "-ex", "x/s 0xffffffff81000000",
		"-ex", "x/s 0xffff888100000010", "-ex", "thread 2", "-ex", "p/x "+regs[0], "-ex", "p/x "+regs[1]).CombinedOutput()
	if err != nil {
		t.Fatalf("gdb: %v\n%s", err, out)
	}
	for _, want := range []string{`"a banner in the kernel's text"`, `"high"`, "$1 = 0x100000001", fmt.Sprintf("$2 = 0x1000000%x", slices.Index(general[arch], regs[1][1:])+1)} {
		if !strings.Contains(string(out), want) {
			t.Errorf("gdb does not say %s:\n%s", want, out)
		}
	}
}
