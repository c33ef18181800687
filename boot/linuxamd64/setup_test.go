package linuxamd64

import (
	"bytes"
	"encoding/binary"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"warder/boot"
	"warder/boot/acpi"
	"warder/boot/expand"
	"warder/internal/testkernel"
)

const gib = 1 << 30

func open(t *testing.T, file []byte) *boot.Kernel {
	t.Helper()
	k, err := boot.Parse(bytes.NewReader(file), int64(len(file)))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func sample(t *testing.T) Config {
	return Config{
		Kernel:  open(t, testkernel.BzImage(expand.Gzip, testkernel.ELF())),
		RAM:     []boot.Range{{Base: 0, Size: 3 * gib}, {Base: 4 * gib, Size: gib}},
		Cmdline: "console=ttyS0",
		Initrd:  [][]byte{bytes.Repeat([]byte{1}, 5001), bytes.Repeat([]byte{2}, 4096)},
		RNGSeed: bytes.Repeat([]byte{3}, 32),
		Machine: acpi.Config{Base: 0xe0000, CPUs: 2, LocalAPIC: 0xfee00000, IOAPIC: 0xfec00000},
	}
}

// guest is the memory of a guest as far as segments fill it.
type guest []boot.Segment

func (g guest) read(t *testing.T, addr uint64, n int) []byte {
	t.Helper()
	for _, s := range g {
		if addr >= s.Addr && addr-s.Addr+uint64(n) <= uint64(len(s.Data)) {
			return s.Data[addr-s.Addr:][:n]
		}
	}
	t.Fatalf("no segment holds the %d bytes at %#x", n, addr)
	return nil
}

func (g guest) u32(t *testing.T, addr uint64) uint32 {
	t.Helper()
	return binary.LittleEndian.Uint32(g.read(t, addr, 4))
}

func (g guest) u64(t *testing.T, addr uint64) uint64 {
	t.Helper()
	return binary.LittleEndian.Uint64(g.read(t, addr, 8))
}

// check sees that segments are inside of memory and apart from each other.
func (g guest) check(t *testing.T, ram []boot.Range) {
	t.Helper()
	for i, s := range g {
		r := boot.Range{Base: s.Addr, Size: uint64(len(s.Data))}
		inside := false
		for _, m := range ram {
			inside = inside || r.Base >= m.Base && r.End() <= m.End()
		}
		if !inside {
			t.Errorf("segment %#x to %#x is outside of memory", r.Base, r.End())
		}
		for _, o := range g[:i] {
			if overlap(r, boot.Range{Base: o.Addr, Size: uint64(len(o.Data))}) {
				t.Errorf("segments at %#x and %#x overlap", o.Addr, s.Addr)
			}
		}
	}
}

// translate walks the page tables.
func (g guest) translate(t *testing.T, cr3, addr uint64) uint64 {
	t.Helper()
	const present, large, mask = 1 << 0, 1 << 7, 0x000f_ffff_ffff_f000
	table := cr3
	for shift := 39; ; shift -= 9 {
		e := g.u64(t, table+addr>>shift&0x1ff*8)
		if e&present == 0 {
			t.Fatalf("%#x is not mapped at %d", addr, shift)
		}
		if e&large != 0 {
			page := uint64(1)<<shift - 1
			return e&mask&^page | addr&page
		}
		table = e & mask
	}
}

func TestSetupLinux64(t *testing.T) {
	cfg := sample(t)
	l, err := Setup(cfg)
	if err != nil {
		t.Fatal(err)
	}
	g := guest(l.Segments)
	g.check(t, cfg.RAM)
	if l.CPU.RIP != testkernel.Entry || !l.CPU.CS.Long {
		t.Errorf("enters at %#x, long mode %v", l.CPU.RIP, l.CPU.CS.Long)
	}
	for _, addr := range []uint64{0, l.CPU.RIP, l.CPU.RSI, 0xd010_0abc, 4*gib - 1} {
		if got := g.translate(t, l.CPU.CR3, addr); got != addr {
			t.Errorf("%#x is mapped to %#x", addr, got)
		}
	}
	params := l.CPU.RSI
	if got := g.u32(t, params+offHeader); got != headerMagic {
		t.Errorf("header magic %#x", got)
	}
	if got := g.u64(t, params+offRSDP); got != cfg.Machine.Base {
		t.Errorf("RSDP at %#x", got)
	}
	line := g.read(t, uint64(g.u32(t, params+offCmdLinePtr)), len(cfg.Cmdline)+1)
	if string(line) != cfg.Cmdline+"\x00" {
		t.Errorf("command line %q", line)
	}
	seed := g.u64(t, params+offSetupData)
	if g.u32(t, seed+8) != setupRNGSeed || !bytes.Equal(g.read(t, seed+16, 32), cfg.RNGSeed) {
		t.Error("no random seed")
	}
	initrd := boot.Range{Base: uint64(g.u32(t, params+offRamdiskImage)), Size: uint64(g.u32(t, params+offRamdiskSize))}
	if initrd != l.Initrd || initrd.Size != 5004+4096 {
		t.Errorf("initramfs %+v, layout says %+v", initrd, l.Initrd)
	}
	if !bytes.Equal(g.read(t, initrd.Base, 5001), cfg.Initrd[0]) || !bytes.Equal(g.read(t, initrd.Base+5004, 4096), cfg.Initrd[1]) {
		t.Error("the parts of the initramfs are not where they belong")
	}
	var e820 []mapEntry
	for i := range uint64(g.read(t, params+offE820Entries, 1)[0]) {
		p := params + offE820Table + i*e820Size
		e820 = append(e820, mapEntry{boot.Range{Base: g.u64(t, p), Size: g.u64(t, p+8)}, g.u32(t, p+16)})
	}
	want := []mapEntry{
		{boot.Range{Base: 0, Size: lowEnd}, memoryRAM},
		{boot.Range{Base: 0xe0000, Size: 0x1000}, memoryACPI},
		{boot.Range{Base: highMem, Size: 3*gib - highMem}, memoryRAM},
		{boot.Range{Base: 4 * gib, Size: gib}, memoryRAM},
	}
	if d := cmp.Diff(want, e820, cmp.AllowUnexported(mapEntry{})); d != "" {
		t.Errorf("memory map:\n%s", d)
	}
}

// TestSetupPlainELF enters a kernel that came without a setup header.
func TestSetupPlainELF(t *testing.T) {
	cfg := sample(t)
	cfg.Kernel = open(t, testkernel.ELF())
	l, err := Setup(cfg)
	if err != nil {
		t.Fatal(err)
	}
	g := guest(l.Segments)
	if g.u32(t, l.CPU.RSI+offHeader) != headerMagic || g.read(t, l.CPU.RSI+offBootFlag, 2)[1] != 0xaa {
		t.Error("no setup header")
	}
	if g.read(t, l.CPU.RSI+offTypeOfLoader, 1)[0] != loaderUnknown {
		t.Error("no type of loader: the kernel would not look for an initramfs")
	}
}

func TestSetupPVH(t *testing.T) {
	cfg := sample(t)
	cfg.Protocol = PVH
	l, err := Setup(cfg)
	if err != nil {
		t.Fatal(err)
	}
	g := guest(l.Segments)
	g.check(t, cfg.RAM)
	c := l.CPU
	if c.RIP != testkernel.PVHEntry || c.CR0&cr0PG != 0 || c.CS.Long || !c.CS.Big || c.CS.Limit != 0xffff_ffff {
		t.Errorf("CPU %+v", c)
	}
	info := c.RBX
	if g.u32(t, info) != startInfoMagic || g.u32(t, info+12) != 1 || g.u64(t, info+32) != cfg.Machine.Base {
		t.Error("bad start info")
	}
	module := g.u64(t, info+16)
	if got := (boot.Range{Base: g.u64(t, module), Size: g.u64(t, module+8)}); got != l.Initrd {
		t.Errorf("module %+v, layout says %+v", got, l.Initrd)
	}
	memory := g.u64(t, info+40)
	if n := g.u32(t, info+48); n != 4 || g.u64(t, memory+3*24) != 4*gib {
		t.Errorf("memory map of %d", n)
	}
}

func TestProtocolChoice(t *testing.T) {
	for _, c := range []struct {
		entry, pvh uint64
		want       Protocol
	}{{1, 0, Linux64}, {1, 2, Linux64}, {0, 2, PVH}, {2, 2, PVH}} {
		if got := Auto.choose(&boot.Kernel{Entry: c.entry, PVHEntry: c.pvh}); got != c.want {
			t.Errorf("entry %d, PVH %d: protocol %d, want %d", c.entry, c.pvh, got, c.want)
		}
	}
}

// TestInitrdHigh has an initramfs that only memory above 4 GiB has room for.
func TestInitrdHigh(t *testing.T) {
	cfg := sample(t)
	cfg.RAM[0].Size = 64 << 20
	cfg.Initrd = [][]byte{make([]byte, 80<<20)}
	l, err := Setup(cfg)
	if err != nil {
		t.Fatal(err)
	}
	g := guest(l.Segments)
	g.check(t, cfg.RAM)
	addr := uint64(g.u32(t, l.CPU.RSI+offExtRamdiskImage))<<32 | uint64(g.u32(t, l.CPU.RSI+offRamdiskImage))
	if addr != l.Initrd.Base || addr < 4*gib {
		t.Errorf("initramfs at %#x, layout says %#x", addr, l.Initrd.Base)
	}
	cfg.Protocol = PVH
	if _, err := Setup(cfg); err == nil || !strings.Contains(err.Error(), "4 GiB") {
		t.Errorf("PVH with an initramfs above 4 GiB: %v", err)
	}
}

func TestDescriptors(t *testing.T) {
	var c CPU
	c.segments(true)
	// As the kernel's own tables have them (arch/x86/boot/compressed/head_64.S).
	for name, d := range map[string]struct{ got, want uint64 }{
		"64-bit code": {c.CS.descriptor(), 0x00af9b000000ffff},
		"data":        {c.DS.descriptor(), 0x00cf93000000ffff},
	} {
		if d.got != d.want {
			t.Errorf("%s: %#016x, want %#016x", name, d.got, d.want)
		}
	}
	c.segments(false)
	if got, want := c.CS.descriptor(), uint64(0x00cf9b000000ffff); got != want {
		t.Errorf("32-bit code: %#016x, want %#016x", got, want)
	}
	if got, want := (Selector{Base: 0x12345678, Limit: 0xabcde, Type: typeTSS, System: true, Present: true}).descriptor(),
		uint64(0x120a8b345678bcde); got != want {
		t.Errorf("base and limit: %#016x, want %#016x", got, want)
	}
}

func TestSetupRefuses(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*Config)
		want   string
	}{
		"no memory":         {func(c *Config) { c.RAM = nil }, "memory has to begin at 0"},
		"memory elsewhere":  {func(c *Config) { c.RAM[0].Base = 4096 }, "memory has to begin at 0"},
		"memory backwards":  {func(c *Config) { c.RAM[1].Base = gib }, "ascending"},
		"memory wraps":      {func(c *Config) { c.RAM[1].Size = ^uint64(0) }, "ascending"},
		"little memory":     {func(c *Config) { c.RAM = []boot.Range{{Size: 8 << 20}} }, "give the guest more"},
		"big initramfs":     {func(c *Config) { c.RAM = []boot.Range{{Size: 17 << 20}}; c.Initrd[0] = make([]byte, 1<<20) }, "give the guest more"},
		"long command line": {func(c *Config) { c.Cmdline = strings.Repeat("x", 2048) }, "reads 2047"},
		"zero in the line":  {func(c *Config) { c.Cmdline = "a\x00b" }, "zero byte"},
		"arm64 kernel":      {func(c *Config) { c.Kernel = &boot.Kernel{Arch: "arm64"} }, "kernel for arm64"},
		"empty kernel":      {func(c *Config) { c.Kernel = &boot.Kernel{Arch: "amd64"} }, "empty kernel"},
		"no PVH entry":      {func(c *Config) { c.Protocol = PVH; c.Kernel.PVHEntry = 0 }, "CONFIG_PVH"},
		"no 64-bit entry":   {func(c *Config) { c.Protocol = Linux64; c.Kernel.Entry = 0 }, "no 64-bit entry"},
		"unknown protocol":  {func(c *Config) { c.Protocol = 7 }, "unknown boot protocol"},
		"tables in the way": {func(c *Config) { c.Machine.Base = testkernel.LoadAddr }, "in the way"},
		"tables too low":    {func(c *Config) { c.Machine.Base = 0x7000 }, "in the way"},
		"no CPU":            {func(c *Config) { c.Machine.CPUs = 0 }, "0 CPUs"},
		"long seed":         {func(c *Config) { c.RNGSeed = make([]byte, 4096) }, "random seed"},
	} {
		cfg := sample(t)
		c.change(&cfg)
		if _, err := Setup(cfg); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error is %v; want it to say %q", name, err, c.want)
		}
	}
}
