package fdt

import (
	"bytes"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/u-root/u-root/pkg/dt"

	"warder/internal/oracle"
)

func sample(gic, cpus, devices int) Config {
	cfg := Config{
		CPUs:       cpus,
		RAM:        []Range{{0x40000000, 512 << 20}},
		Bootargs:   "console=ttyS0 quiet",
		Initrd:     Range{0x50000000, 12345},
		RNGSeed:    bytes.Repeat([]byte{7}, 64),
		KASLRSeed:  0x1122334455667788,
		GIC:        GIC{Version: gic, Distributor: Range{0x08000000, 0x10000}, Second: Range{0x080a0000, 0x20000 * uint64(cpus)}},
		Serial:     &Device{0x09000000, 0x1000, 1},
		RTC:        &Device{0x09010000, 0x1000, 2},
		GPIO:       &Device{0x09030000, 0x1000, 7},
		PowerLine:  3,
		Watchdog:   &Device{0x09020000, 0x1000, 3},
		WatchdogHz: 1000,
	}
	if gic == 2 {
		cfg.GIC.Second = Range{0x08010000, 0x10000}
	}
	for i := range devices {
		cfg.VirtioMMIO = append(cfg.VirtioMMIO, Device{0x0a000000 + uint64(i)*0x1000, 0x1000, uint32(16 + i)})
	}
	return cfg
}

func parse(t *testing.T, cfg Config) *dt.FDT {
	t.Helper()
	blob, err := Build(cfg)
	if err != nil {
		t.Fatal(err)
	}
	tree, err := dt.ReadFDT(bytes.NewReader(blob))
	if err != nil {
		t.Fatal(err)
	}
	return tree
}

func property(t *testing.T, tree *dt.FDT, node, name string) []byte {
	t.Helper()
	n, ok := tree.NodeByName(node)
	if !ok {
		t.Fatalf("no node %s", node)
	}
	p, ok := n.LookProperty(name)
	if !ok {
		t.Fatalf("%s has no property %s", node, name)
	}
	return p.Value
}

func TestBuild(t *testing.T) {
	tree := parse(t, sample(3, 20, 4))
	for _, c := range []struct {
		node, property string
		want           []byte
	}{
		{"chosen", "bootargs", []byte("console=ttyS0 quiet\x00")},
		{"chosen", "stdout-path", []byte("/serial@9000000\x00")},
		{"chosen", "linux,initrd-start", []byte{0, 0, 0, 0, 0x50, 0, 0, 0}},
		{"chosen", "linux,initrd-end", []byte{0, 0, 0, 0, 0x50, 0, 0x30, 0x39}},
		{"chosen", "kaslr-seed", []byte{0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88}},
		{"chosen", "rng-seed", bytes.Repeat([]byte{7}, 64)},
		{"psci", "method", []byte("hvc\x00")},
		{"watchdog@9020000", "clock-names", []byte("wdog_clk\x00apb_pclk\x00")},
		{"wdog-clk", "clock-frequency", []byte{0, 0, 0x03, 0xe8}},
		{"virtio_mmio@a003000", "interrupts", []byte{0, 0, 0, 0, 0, 0, 0, 19, 0, 0, 0, 1}},
		{"cpu@f", "reg", []byte{0, 0, 0, 15}},
		{"cpu@100", "reg", []byte{0, 0, 1, 0}}, // vCPU 16 begins the second cluster
		{"cpu@103", "enable-method", []byte("psci\x00")},
		{"key-power", "linux,code", []byte{0, 0, 0, 116}},
	} {
		if got := property(t, tree, c.node, c.property); !bytes.Equal(got, c.want) {
			t.Errorf("%s of %s is % x, want % x", c.property, c.node, got, c.want)
		}
	}
}

func TestBuildLeavesOut(t *testing.T) {
	cfg := sample(3, 1, 0)
	cfg.Initrd, cfg.RNGSeed, cfg.KASLRSeed = Range{}, nil, 0
	cfg.Serial, cfg.RTC, cfg.GPIO, cfg.Watchdog = nil, nil, nil, nil
	tree := parse(t, cfg)
	chosen, _ := tree.NodeByName("chosen")
	for _, p := range chosen.Properties {
		if p.Name != "bootargs" {
			t.Errorf("chosen has %s", p.Name)
		}
	}
	for _, n := range []string{"aliases", "serial@9000000", "gpio-keys", "apb-pclk", "wdog-clk"} {
		if _, ok := tree.NodeByName(n); ok {
			t.Errorf("there is a node %s", n)
		}
	}
}

func TestBuildRefuses(t *testing.T) {
	for name, change := range map[string]func(*Config){
		"no CPU":                func(c *Config) { c.CPUs = 0 },
		"unknown GIC":           func(c *Config) { c.GIC.Version = 4 },
		"9 CPUs and a GICv2":    func(c *Config) { c.GIC.Version, c.CPUs = 2, 9 },
		"no memory":             func(c *Config) { c.RAM = nil },
		"zero in the arguments": func(c *Config) { c.Bootargs = "a\x00b" },
	} {
		cfg := sample(3, 1, 1)
		change(&cfg)
		if _, err := Build(cfg); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

// TestDTC has the device tree compiler check the tree by all its rules.
func TestDTC(t *testing.T) {
	dtc := oracle.Command(t, "dtc", "device-tree-compiler")
	bare := sample(3, 1, 0)
	bare.Serial, bare.RTC, bare.GPIO = nil, nil, nil
	for name, cfg := range map[string]Config{
		"GICv3": sample(3, 40, 100), "GICv2": sample(2, 8, 8), "bare": bare,
	} {
		t.Run(name, func(t *testing.T) {
			blob, err := Build(cfg)
			if err != nil {
				t.Fatal(err)
			}
			compile := func(in []byte, from, to string) (out, warnings bytes.Buffer) {
				t.Helper()
				cmd := exec.CommandContext(t.Context(), dtc, "-I", from, "-O", to, "-")
				cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(in), &out, &warnings
				if err := cmd.Run(); err != nil {
					t.Fatalf("dtc: %v\n%s", err, &warnings)
				}
				return out, warnings
			}
			first, warnings := compile(blob, "dtb", "dts")
			// What dtc writes from its own source has to read the same.
			again, _ := compile(first.Bytes(), "dts", "dtb")
			second, _ := compile(again.Bytes(), "dtb", "dts")
			if first.String() != second.String() {
				t.Errorf("dtc reads another tree than it writes:\n%s", &first)
			}
			complaints := slices.Collect(strings.Lines(warnings.String()))
			for _, w := range complaints {
				t.Error(strings.TrimSpace(w))
			}
			if len(complaints) > 0 {
				t.Log(first.String())
			}
		})
	}
}
