package fdt

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"strings"

	"github.com/u-root/u-root/pkg/dt"
)

// Numbers by which nodes refer to each other.
const (
	phandleGIC = 1 + iota
	phandleClock
	phandleGPIO
	phandleWatchdogClock
)

// Interrupt specifiers of the GIC binding: kind, number, how it triggers.
const (
	irqSPI = 0
	irqPPI = 1

	edgeRising = 1
	levelHigh  = 4
)

const (
	uartClockHz = 1843200  // of a PC's 16550A
	apbClockHz  = 24000000 // of the PrimeCells; nothing here depends on it
	keyPower    = 116      // KEY_POWER, linux/input-event-codes.h
)

// Build returns the tree as a blob.
func Build(cfg Config) ([]byte, error) {
	if err := cfg.check(); err != nil {
		return nil, fmt.Errorf("fdt: %w", err)
	}
	tree := dt.FDT{
		Header:   dt.Header{Magic: dt.Magic, Version: 17, LastCompVersion: 16},
		RootNode: root(&cfg),
	}
	var b bytes.Buffer
	if _, err := tree.Write(&b); err != nil {
		return nil, fmt.Errorf("fdt: %w", err)
	}
	return b.Bytes(), nil
}

// maxCPUs is what the three affinity levels that KVM fills can tell apart, far
// above what it has room for.
const maxCPUs = 1 << 12

func (cfg *Config) check() error {
	switch {
	case cfg.CPUs < 1 || cfg.CPUs > maxCPUs:
		return fmt.Errorf("%d CPUs: has to be 1 to %d", cfg.CPUs, maxCPUs)
	case cfg.GIC.Version != 2 && cfg.GIC.Version != 3:
		return fmt.Errorf("GIC version %d: has to be 2 or 3", cfg.GIC.Version)
	case cfg.GIC.Version == 2 && cfg.CPUs > 8:
		return fmt.Errorf("%d CPUs: a GICv2 has 8 at most", cfg.CPUs)
	case len(cfg.RAM) == 0:
		return fmt.Errorf("no memory")
	case strings.ContainsRune(cfg.Bootargs, 0):
		return fmt.Errorf("the kernel command line has a zero byte")
	}
	return nil
}

func root(cfg *Config) *dt.Node {
	children := []*dt.Node{chosen(cfg), memory(cfg), cpus(cfg), psci(), timer(cfg), gic(cfg)}
	if cfg.RTC != nil || cfg.GPIO != nil || cfg.Watchdog != nil {
		children = append(children, clock("apb-pclk", apbClockHz, phandleClock))
	}
	if d := cfg.Serial; d != nil {
		children = append(children,
			dt.NewNode("aliases", dt.WithProperty(dt.PropertyString("serial0", serialPath(d)))),
			serial(d))
	}
	if d := cfg.RTC; d != nil {
		children = append(children, primeCell("pl031", "rtc", d))
	}
	if d := cfg.GPIO; d != nil {
		children = append(children, gpio(d), powerKey(cfg.PowerLine))
	}
	if d := cfg.Watchdog; d != nil {
		children = append(children, clock("wdog-clk", cfg.WatchdogHz, phandleWatchdogClock), watchdog(d))
	}
	for i := range cfg.VirtioMMIO {
		children = append(children, virtio(&cfg.VirtioMMIO[i]))
	}
	return dt.NewNode("", dt.WithProperty(
		dt.PropertyString("compatible", "linux,dummy-virt"),
		dt.PropertyString("model", "warder"),
		dt.PropertyU32("#address-cells", 2),
		dt.PropertyU32("#size-cells", 2),
		dt.PropertyU32("interrupt-parent", phandleGIC),
	), dt.WithChildren(children...))
}

func chosen(cfg *Config) *dt.Node {
	n := dt.NewNode("chosen", dt.WithProperty(dt.PropertyString("bootargs", cfg.Bootargs)))
	add := func(p dt.Property) { n.Properties = append(n.Properties, p) }
	if cfg.Serial != nil {
		add(dt.PropertyString("stdout-path", serialPath(cfg.Serial)))
	}
	if cfg.Initrd.Size > 0 {
		add(dt.PropertyU64("linux,initrd-start", cfg.Initrd.Base))
		add(dt.PropertyU64("linux,initrd-end", cfg.Initrd.Base+cfg.Initrd.Size))
	}
	if len(cfg.RNGSeed) > 0 {
		add(dt.Property{Name: "rng-seed", Value: cfg.RNGSeed})
	}
	if cfg.KASLRSeed != 0 {
		add(dt.PropertyU64("kaslr-seed", cfg.KASLRSeed))
	}
	return n
}

func memory(cfg *Config) *dt.Node {
	return dt.NewNode(at("memory", cfg.RAM[0].Base), dt.WithProperty(
		dt.PropertyString("device_type", "memory"),
		ranges("reg", cfg.RAM...),
	))
}

func cpus(cfg *Config) *dt.Node {
	n := dt.NewNode("cpus", dt.WithProperty(dt.PropertyU32("#address-cells", 1), dt.PropertyU32("#size-cells", 0)))
	for i := range uint32(cfg.CPUs) {
		id := affinity(i)
		n.Children = append(n.Children, dt.NewNode(at("cpu", uint64(id)), dt.WithProperty(
			dt.PropertyString("device_type", "cpu"),
			dt.PropertyString("compatible", "arm,armv8"),
			dt.PropertyString("enable-method", "psci"),
			dt.PropertyU32("reg", id),
		)))
	}
	return n
}

// affinity is the affinity of a vCPU in MPIDR_EL1: KVM puts 16 CPUs into a
// cluster, for the interrupts that a GICv3 sends to lists of 16
// (reset_mpidr, arch/arm64/kvm/sys_regs.c).
func affinity(vcpu uint32) uint32 { return vcpu&0xf | vcpu>>4&0xff<<8 | vcpu>>12&0xff<<16 }

func psci() *dt.Node {
	return dt.NewNode("psci", dt.WithProperty(
		stringList("compatible", "arm,psci-1.0", "arm,psci-0.2"),
		dt.PropertyString("method", "hvc"),
	))
}

// ppi is the trigger cell of a private interrupt; a GICv2 has there the CPUs
// that it goes to as well.
func ppi(cfg *Config) uint32 {
	if cfg.GIC.Version == 2 {
		return levelHigh | (1<<cfg.CPUs-1)<<8
	}
	return levelHigh
}

func timer(cfg *Config) *dt.Node {
	var cells []uint32
	for _, n := range []uint32{13, 14, 11, 10} { // secure, non-secure, virtual, hypervisor
		cells = append(cells, irqPPI, n, ppi(cfg))
	}
	return dt.NewNode("timer", dt.WithProperty(
		dt.PropertyString("compatible", "arm,armv8-timer"),
		dt.PropertyU32Array("interrupts", cells),
		empty("always-on"),
	))
}

func gic(cfg *Config) *dt.Node {
	compatible := "arm,gic-v3"
	if cfg.GIC.Version == 2 {
		compatible = "arm,cortex-a15-gic"
	}
	return dt.NewNode(at("interrupt-controller", cfg.GIC.Distributor.Base), dt.WithProperty(
		dt.PropertyString("compatible", compatible),
		empty("interrupt-controller"),
		dt.PropertyU32("#interrupt-cells", 3),
		dt.PropertyU32("#address-cells", 0),
		ranges("reg", cfg.GIC.Distributor, cfg.GIC.Second),
		dt.PropertyU32("phandle", phandleGIC),
	))
}

func clock(name string, hz, phandle uint32) *dt.Node {
	return dt.NewNode(name, dt.WithProperty(
		dt.PropertyString("compatible", "fixed-clock"),
		dt.PropertyU32("#clock-cells", 0),
		dt.PropertyU32("clock-frequency", hz),
		dt.PropertyU32("phandle", phandle),
	))
}

func serialPath(d *Device) string { return "/" + at("serial", d.Addr) }

func serial(d *Device) *dt.Node {
	return peripheral("serial", d,
		dt.PropertyString("compatible", "ns16550a"),
		dt.PropertyU32("clock-frequency", uartClockHz),
		dt.PropertyU32("reg-shift", 0),
		dt.PropertyU32("reg-io-width", 1),
	)
}

// primeCell is one of Arm's peripherals, which Linux finds by their bus.
func primeCell(part, name string, d *Device, more ...dt.Property) *dt.Node {
	return peripheral(name, d, append(more,
		stringList("compatible", "arm,"+part, "arm,primecell"),
		dt.PropertyU32("clocks", phandleClock),
		dt.PropertyString("clock-names", "apb_pclk"),
	)...)
}

func gpio(d *Device) *dt.Node {
	return primeCell("pl061", "gpio", d,
		empty("gpio-controller"),
		dt.PropertyU32("#gpio-cells", 2),
		empty("interrupt-controller"),
		dt.PropertyU32("#interrupt-cells", 2),
		dt.PropertyU32("#address-cells", 0),
		dt.PropertyU32("phandle", phandleGPIO),
	)
}

// watchdog has two clocks, the counter's first.
func watchdog(d *Device) *dt.Node {
	return peripheral("watchdog", d,
		stringList("compatible", "arm,sp805", "arm,primecell"),
		dt.PropertyU32Array("clocks", []uint32{phandleWatchdogClock, phandleClock}),
		stringList("clock-names", "wdog_clk", "apb_pclk"),
	)
}

func powerKey(line uint32) *dt.Node {
	const activeHigh = 0
	return dt.NewNode("gpio-keys", dt.WithProperty(dt.PropertyString("compatible", "gpio-keys")),
		dt.WithChildren(dt.NewNode("key-power", dt.WithProperty(
			dt.PropertyString("label", "GPIO Key Power"),
			dt.PropertyU32("linux,code", keyPower),
			dt.PropertyU32Array("gpios", []uint32{phandleGPIO, line, activeHigh}),
		))))
}

func virtio(d *Device) *dt.Node {
	return peripheral("virtio_mmio", d,
		dt.PropertyString("compatible", "virtio,mmio"),
		empty("dma-coherent"),
	)
}

// peripheral is a device with registers and an edge-triggered interrupt.
func peripheral(name string, d *Device, properties ...dt.Property) *dt.Node {
	return dt.NewNode(at(name, d.Addr), dt.WithProperty(append(properties,
		ranges("reg", Range{d.Addr, d.Size}),
		dt.PropertyU32Array("interrupts", []uint32{irqSPI, d.SPI, edgeRising}),
	)...))
}

func at(name string, addr uint64) string { return fmt.Sprintf("%s@%x", name, addr) }

func empty(name string) dt.Property { return dt.Property{Name: name} }

func stringList(name string, values ...string) dt.Property {
	return dt.Property{Name: name, Value: []byte(strings.Join(values, "\x00") + "\x00")}
}

// ranges is an array of addresses and sizes of two cells each.
func ranges(name string, rs ...Range) dt.Property {
	var b []byte
	for _, r := range rs {
		b = binary.BigEndian.AppendUint64(b, r.Base)
		b = binary.BigEndian.AppendUint64(b, r.Size)
	}
	return dt.Property{Name: name, Value: b}
}
