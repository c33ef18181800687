package linuxarm64

import (
	"bytes"
	"encoding/binary"
	"strings"
	"testing"

	"github.com/u-root/u-root/pkg/dt"

	"warder/boot"
	"warder/boot/fdt"
	"warder/internal/testkernel"
)

const (
	gib     = 1 << 30
	ramBase = 0x40000000
)

func sample(t *testing.T) Config {
	t.Helper()
	file := testkernel.Image()
	k, err := boot.Parse(bytes.NewReader(file), int64(len(file)))
	if err != nil {
		t.Fatal(err)
	}
	return Config{
		Kernel: k,
		Initrd: [][]byte{bytes.Repeat([]byte{1}, 5001), bytes.Repeat([]byte{2}, 4096)},
		Machine: fdt.Config{
			CPUs: 1, RAM: []fdt.Range{{Base: ramBase, Size: 64 << 20}}, Bootargs: "quiet",
			GIC: fdt.GIC{Version: 3, Distributor: fdt.Range{Base: 0x8000000, Size: 0x10000}, Second: fdt.Range{Base: 0x80a0000, Size: 0x20000}},
		},
	}
}

func TestSetup(t *testing.T) {
	for name, change := range map[string]func(*Config){
		"usual":       func(*Config) {},
		"text offset": func(c *Config) { c.Kernel.Segments[0].Addr = 0x80000 },
		// The window that the initramfs has to share with the kernel ends below.
		"much memory":  func(c *Config) { c.Machine.RAM[0].Size = 100 * gib },
		"no initramfs": func(c *Config) { c.Initrd = nil },
	} {
		t.Run(name, func(t *testing.T) {
			cfg := sample(t)
			change(&cfg)
			l, err := Setup(cfg)
			if err != nil {
				t.Fatal(err)
			}
			checkLayout(t, &cfg, l)
		})
	}
}

// checkLayout holds a layout against the rules of booting.rst.
func checkLayout(t *testing.T, cfg *Config, l *Layout) {
	t.Helper()
	kernel := boot.Range{Base: l.Segments[0].Addr, Size: cfg.Kernel.Size}
	tree := boot.Range{Base: l.Segments[1].Addr, Size: uint64(len(l.Segments[1].Data))}
	if offset := cfg.Kernel.Segments[0].Addr; (kernel.Base-offset)%kernelAlign != 0 || l.CPU.PC != kernel.Base {
		t.Errorf("kernel with text offset %#x at %#x, entered at %#x", offset, kernel.Base, l.CPU.PC)
	}
	if tree.Base%8 != 0 || tree.Base/kernelAlign != (tree.End()-1)/kernelAlign || l.CPU.X0 != tree.Base {
		t.Errorf("device tree at %#x with %d bytes, X0 %#x", tree.Base, tree.Size, l.CPU.X0)
	}
	if l.CPU.PState != 0x3c5 {
		t.Errorf("PSTATE %#x", l.CPU.PState)
	}
	window := kernel.Base &^ (windowAlign - 1)
	ranges := []boot.Range{kernel, tree, l.Initrd}
	for i, r := range ranges {
		if r.Size == 0 {
			continue
		}
		ram := cfg.Machine.RAM[0]
		if r.Base < ram.Base || r.End() > ram.Base+ram.Size {
			t.Errorf("%+v is outside of memory", r)
		}
		if r.End() > window+windowSize {
			t.Errorf("%+v is outside of the kernel's window", r)
		}
		for _, o := range ranges[:i] {
			if r.Base < o.End() && o.Base < r.End() {
				t.Errorf("%+v and %+v overlap", o, r)
			}
		}
	}
	parsed, err := dt.ReadFDT(bytes.NewReader(l.Segments[1].Data))
	if err != nil {
		t.Fatal(err)
	}
	chosen, _ := parsed.NodeByName("chosen")
	start, ok := chosen.LookProperty("linux,initrd-start")
	if ok != (len(cfg.Initrd) > 0) {
		t.Errorf("device tree has an initramfs: %v", ok)
	}
	if !ok {
		return
	}
	if got := binary.BigEndian.Uint64(start.Value); got != l.Initrd.Base || got != l.Segments[2].Addr {
		t.Errorf("initramfs at %#x, the device tree says %#x", l.Initrd.Base, got)
	}
	if l.Segments[3].Addr != l.Initrd.Base+5004 || l.Initrd.Size != 5004+4096 {
		t.Errorf("second part of the initramfs at %#x, all of it %+v", l.Segments[3].Addr, l.Initrd)
	}
}

func TestSetupRefuses(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*Config)
		want   string
	}{
		"no memory":        {func(c *Config) { c.Machine.RAM = nil }, "no memory"},
		"unaligned memory": {func(c *Config) { c.Machine.RAM[0].Base += 4096 }, "2 MiB"},
		"memory wraps":     {func(c *Config) { c.Machine.RAM[0].Size = ^uint64(0) }, "2 MiB"},
		"little memory":    {func(c *Config) { c.Machine.RAM[0].Size = 2 << 20 }, "give it more"},
		"huge kernel":      {func(c *Config) { c.Kernel.Size = ^uint64(0) - 100 }, "give it more"},
		"big initramfs":    {func(c *Config) { c.Initrd[0] = make([]byte, 61<<20) }, "give the guest more"},
		"amd64 kernel":     {func(c *Config) { c.Kernel = &boot.Kernel{Arch: "amd64"} }, "kernel for amd64"},
		"empty kernel":     {func(c *Config) { c.Kernel = &boot.Kernel{Arch: "arm64"} }, "empty kernel"},
		"no CPU":           {func(c *Config) { c.Machine.CPUs = 0 }, "0 CPUs"},
	} {
		cfg := sample(t)
		c.change(&cfg)
		if _, err := Setup(cfg); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error is %v; want it to say %q", name, err, c.want)
		}
	}
}
