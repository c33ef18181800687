package linuxamd64

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"
	"testing"

	"warder/boot"
	"warder/boot/acpi"
	"warder/internal/oracle"
	"warder/internal/testqemu"
)

// TestQEMU has QEMU's emulated CPU, which is brought into the state that the
// layout prescribes, run a real kernel from it. The kernel finds no init and
// panics, which is late enough to have used all that it was handed.
func TestQEMU(t *testing.T) {
	if testing.Short() {
		t.Skip("boots a kernel in an emulator")
	}
	qemu := oracle.Command(t, "qemu-system-x86_64", "qemu-system-x86")
	kernel, release := testqemu.Kernel(t, "amd64")
	for _, p := range []Protocol{Linux64, PVH} {
		t.Run(map[Protocol]string{Linux64: "64-bit", PVH: "PVH"}[p], func(t *testing.T) {
			cfg := qemuConfig(t, kernel, p)
			l, err := Setup(cfg)
			if err != nil {
				t.Fatal(err)
			}
			wanted := []string{
				"Linux version " + release,
				"Command line: " + cfg.Cmdline,
				"ACPI: RSDP 0x00000000000E0000",
				"ACPI: Interpreter enabled",
				"00:00: ttyS0 at I/O 0x3f8",          // the DSDT's COM1, with its interrupt
				"rtc_cmos 00:01: registered as rtc0", // its RTC
				"smp: Brought up 1 node, 2 CPUs",
				"[mem 0x0000000000100000-0x000000000fffffff] usable",
				"Trying to unpack rootfs image as initramfs...",
				fmt.Sprintf("Freeing initrd memory: %dK", (l.Initrd.Size+pageSize-1)/pageSize*(pageSize>>10)),
				"Unable to mount root fs",
			}
			if p == Linux64 {
				wanted = append(wanted, "random: crng init done") // by the seed
			}
			log := testqemu.Run(t, qemu, []string{
				"-M", "microvm,pit=on,pic=on,rtc=on,x-option-roms=off", "-cpu", "max", "-smp", fmt.Sprint(cfg.Machine.CPUs),
				// Time that instructions drive: Linux calibrates its clocks on a busy host, too.
				"-accel", "tcg,thread=single", "-icount", "shift=2,sleep=off",
			}, firmware(&l.CPU), l.Segments)
			testqemu.Said(t, log, wanted, []string{"ACPI Error", "ACPI BIOS", "ACPI Warning"})
		})
	}
}

// qemuConfig describes what of QEMU's microvm the tables can: there is nothing
// behind Power.
func qemuConfig(t *testing.T, kernel *boot.Kernel, p Protocol) Config {
	return Config{
		Kernel: kernel, Protocol: p,
		RAM:     []boot.Range{{Base: 0, Size: 256 << 20}},
		Cmdline: "console=ttyS0 panic=-1 reboot=t rdinit=/nothing init=/nothing loglevel=8",
		Initrd:  testqemu.Initrd(t),
		RNGSeed: bytes.Repeat([]byte{0x5a}, 64),
		Machine: acpi.Config{
			Base: 0xe0000, CPUs: 2, LocalAPIC: 0xfee00000, IOAPIC: 0xfec00000,
			Serial: &acpi.Port{Port: 0x3f8, GSI: 4}, RTC: &acpi.Port{Port: 0x70, GSI: 8},
			VirtioMMIO: []acpi.Device{{Addr: 0xd0000000, Size: 0x1000, GSI: 5}},
			Power: acpi.Power{
				Event: 0xd0100000, GSI: 9,
				Reset: acpi.Register{Space: acpi.SystemIO, Addr: 0x602}, ResetValue: 0x42,
				SleepControl: acpi.Register{Space: acpi.SystemIO, Addr: 0x600},
				SleepStatus:  acpi.Register{Space: acpi.SystemIO, Addr: 0x601},
			},
		},
	}
}

// firmware is a ROM of 64 KiB whose reset vector brings the first CPU into the
// state c.
func firmware(c *CPU) []byte {
	const (
		size   = 0x10000
		alias  = 0xf0000 // where the ROM is seen below 1 MiB, too
		gdtr   = 0x100   // offsets into the ROM
		second = 0x80
		reset  = 0xfff0
	)
	le := binary.LittleEndian
	u16 := func(v uint16) []byte { return le.AppendUint16(nil, v) }
	u32 := func(v uint64) []byte { return le.AppendUint32(nil, uint32(v)) }
	u64 := func(v uint64) []byte { return le.AppendUint64(nil, v) }
	first := slices.Concat(
		[]byte{0x2e, 0x66, 0x0f, 0x01, 0x16}, u16(gdtr), // lgdtl %cs:gdtr
		[]byte{0x66, 0xb8}, u32(c.CR4), []byte{0x0f, 0x22, 0xe0}, // mov $cr4, %eax; mov %eax, %cr4
		[]byte{0x66, 0xb8}, u32(c.CR3), []byte{0x0f, 0x22, 0xd8}, // the same for CR3
		[]byte{0x66, 0xb9}, u32(0xc0000080), []byte{0x66, 0x31, 0xd2}, // mov $EFER, %ecx; xor %edx, %edx
		[]byte{0x66, 0xb8}, u32(c.EFER&^eferLMA), []byte{0x0f, 0x30}, // mov $efer, %eax; wrmsr
		[]byte{0x66, 0xb8}, u32(c.CR0), []byte{0x0f, 0x22, 0xc0}, // CR0
		[]byte{0x66, 0xea}, u32(alias+second), u16(c.CS.Selector), // ljmpl $cs, $second
	)
	data := slices.Concat(
		[]byte{0x66, 0xb8}, u16(c.DS.Selector), // mov $ds, %ax
		[]byte{0x8e, 0xd8, 0x8e, 0xc0, 0x8e, 0xd0, 0x8e, 0xe0, 0x8e, 0xe8}, // mov %ax, %ds, %es, %ss, %fs, %gs
	)
	long := slices.Concat(
		[]byte{0x48, 0xbc}, u64(c.RSP), []byte{0x48, 0xbe}, u64(c.RSI), // movabs to RSP, RSI
		[]byte{0x48, 0xb8}, u64(c.RIP), []byte{0xff, 0xe0}, // movabs $rip, %rax; jmp *%rax
	)
	protected := slices.Concat(
		[]byte{0xbb}, u32(c.RBX), // mov to EBX
		[]byte{0xb8}, u32(c.RIP), []byte{0xff, 0xe0}, // mov $eip, %eax; jmp *%eax
	)
	rom := make([]byte, size)
	copy(rom, first)
	rest := protected
	if c.CS.Long {
		rest = long
	}
	copy(rom[second:], append(data, rest...))
	copy(rom[gdtr:], append(u16(c.GDT.Limit), u32(c.GDT.Base)...))
	copy(rom[reset:], []byte{0xe9, 0x0d, 0x00}) // jmp to offset 0
	return rom
}
