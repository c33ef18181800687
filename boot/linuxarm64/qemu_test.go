package linuxarm64

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"testing"

	"warder/boot"
	"warder/boot/fdt"
	"warder/internal/oracle"
	"warder/internal/testqemu"
)

// qemuRAM is where the guest's memory begins here. QEMU puts a device tree of
// its own to the beginning of its memory, 2 MiB below.
const qemuRAM = 0x40200000

// TestQEMU has QEMU's emulated CPU, which is brought into the state that the
// layout prescribes, run a real kernel from it. The kernel finds no init and
// panics, which is late enough to have used all that it was handed.
func TestQEMU(t *testing.T) {
	if testing.Short() {
		t.Skip("boots a kernel in an emulator")
	}
	qemu := oracle.Command(t, "qemu-system-aarch64", "qemu-system-arm")
	kernel, release := testqemu.Kernel(t, "arm64")
	for _, gic := range []int{3, 2} {
		t.Run(fmt.Sprintf("GICv%d", gic), func(t *testing.T) {
			cfg := qemuConfig(t, kernel, gic)
			l, err := Setup(cfg)
			if err != nil {
				t.Fatal(err)
			}
			log := testqemu.Run(t, qemu, []string{
				"-M", fmt.Sprintf("virt,acpi=off,gic-version=%d", gic), "-cpu", "cortex-a72", "-smp", fmt.Sprint(cfg.Machine.CPUs),
				"-accel", "tcg",
			}, firmware(&l.CPU), l.Segments)
			testqemu.Said(t, log, []string{
				"Linux version " + release,
				"Machine model: warder",
				"Kernel command line: " + cfg.Machine.Bootargs,
				"psci: PSCIv1.",
				"random: crng init done",
				"KASLR enabled",
				map[int]string{2: "Root IRQ handler: gic_handle_irq", 3: "GICv3: CPU1: found redistributor"}[gic],
				"arch_timer: cp15 timer(s) running",
				"smp: Brought up 1 node, 2 CPUs",
				"rtc-pl031 9010000.rtc: registered as rtc0",
				"pl061_gpio 9030000.gpio: PL061 GPIO chip registered",
				"Trying to unpack rootfs image as initramfs...",
				"Freeing initrd memory: 20", // both parts, rounded to pages
				"Unable to mount root fs",
			}, nil)
		})
	}
}

// qemuConfig describes QEMU's machine "virt", but for its serial port, which is
// of another kind than ours.
func qemuConfig(t *testing.T, kernel *boot.Kernel, gic int) Config {
	t.Helper()
	machine := fdt.Config{
		CPUs:      2,
		RAM:       []fdt.Range{{Base: qemuRAM, Size: 254 << 20}},
		Bootargs:  "earlycon=pl011,0x9000000 keep_bootcon panic=-1 rdinit=/nothing init=/nothing",
		RNGSeed:   bytes.Repeat([]byte{0x5a}, 64),
		KASLRSeed: 0x123456789abcdef0,
		GIC: fdt.GIC{
			Version: gic, Distributor: fdt.Range{Base: 0x8000000, Size: 0x10000},
			Second: fdt.Range{Base: 0x8010000, Size: 0x10000},
		},
		RTC:        &fdt.Device{Addr: 0x9010000, Size: 0x1000, SPI: 2},
		GPIO:       &fdt.Device{Addr: 0x9030000, Size: 0x1000, SPI: 7},
		PowerLine:  3,
		VirtioMMIO: []fdt.Device{{Addr: 0xa000000, Size: 0x200, SPI: 16}},
	}
	if gic == 3 {
		machine.GIC.Second = fdt.Range{Base: 0x80a0000, Size: 0xf60000}
	}
	return Config{Kernel: kernel, Initrd: testqemu.Initrd(t), Machine: machine}
}

// firmware brings the first CPU into the state c.
func firmware(c *CPU) []byte {
	var b []byte
	for _, instruction := range []uint32{
		0x58000080, // ldr x0, the word at 16
		0x580000a4, // ldr x4, the word at 24
		0xd61f0080, // br x4
		0xd503201f, // nop
	} {
		b = binary.LittleEndian.AppendUint32(b, instruction)
	}
	return binary.LittleEndian.AppendUint64(binary.LittleEndian.AppendUint64(b, c.X0), c.PC)
}
