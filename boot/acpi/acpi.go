// Package acpi writes the ACPI tables of an x86 virtual machine with
// reduced hardware (ACPI 6.5, section 4.1).
package acpi

import "fmt"

// Config says which hardware the tables describe.
type Config struct {
	Base       uint64 // guest-physical address of the tables, 16-byte aligned; the RSDP is first
	CPUs       int    // APIC ids are 0 to CPUs-1
	LocalAPIC  uint64 // usually 0xfee00000
	IOAPIC     uint64 // usually 0xfec00000; its inputs are the GSIs from 0
	Serial     *Port  // 16550A
	RTC        *Port  // MC146818, two ports
	VirtioMMIO []Device
	Watchdog   *Watchdog
	Power      Power
}

// A Port is a legacy device in I/O space.
type Port struct {
	Port uint16
	GSI  uint32
}

// A Device is a device in memory space with an edge-triggered interrupt.
type Device struct {
	Addr uint64
	Size uint64
	GSI  uint32
}

// Power are the registers that end the machine or its sleep.
type Power struct {
	// Event is a byte in memory that a guest reads, and thereby clears, when GSI
	// fires (generic event device, section 5.6.9); EventPowerButton is set in it
	// when the power button was pressed.
	Event uint64
	GSI   uint32

	Reset        Register // RESET_REG: writing ResetValue resets the machine
	ResetValue   uint8
	SleepControl Register // SLEEP_CONTROL_REG, section 4.8.3.7
	SleepStatus  Register // SLEEP_STATUS_REG
}

// EventPowerButton is the power button's bit in the byte at Power.Event.
const EventPowerButton = 1 << 0

// SleepTypeS5 is the SLP_TYP that powers off: the guest writes
// SleepTypeS5<<2 | 1<<5 to Power.SleepControl.
const SleepTypeS5 = 5

// A Space is an address space of a generic address structure, section 5.2.3.2.
type Space uint8

const (
	SystemMemory Space = 0
	SystemIO     Space = 1
)

// A Register is a register of one byte.
type Register struct {
	Space Space
	Addr  uint64
}

// align is where tables begin; the RSDP has to (section 5.2.5.1).
const align = 16

// maxCPUs is what three hexadecimal digits of a device name can tell apart.
const maxCPUs = 0x1000

// Build returns the tables, to be placed at cfg.Base.
func Build(cfg Config) ([]byte, error) {
	if err := cfg.check(); err != nil {
		return nil, fmt.Errorf("acpi: %w", err)
	}
	blob := make([]byte, rsdpSize)
	put := func(t []byte) (addr uint64) {
		blob = append(blob, make([]byte, -len(blob)&(align-1))...)
		addr = cfg.Base + uint64(len(blob))
		blob = append(blob, t...)
		return addr
	}
	dsdt := put(table("DSDT", 2, definitionBlock(cfg)))
	listed := []uint64{put(fadt(cfg, dsdt)), put(madt(cfg))}
	if cfg.Watchdog != nil {
		listed = append(listed, put(wdat(cfg.Watchdog)))
	}
	root := put(xsdt(listed...))
	copy(blob, rsdp(root))
	if cfg.Base+uint64(len(blob)) > 1<<32 {
		return nil, fmt.Errorf("acpi: %d bytes of tables do not fit below 4 GiB at %#x", len(blob), cfg.Base)
	}
	return blob, nil
}

// check refuses what the tables cannot express.
func (cfg *Config) check() error {
	if cfg.Base%align != 0 {
		return fmt.Errorf("base %#x is not a multiple of %d", cfg.Base, align)
	}
	if cfg.CPUs < 1 || cfg.CPUs > maxCPUs {
		return fmt.Errorf("%d CPUs: has to be 1 to %d", cfg.CPUs, maxCPUs)
	}
	if len(cfg.VirtioMMIO) > 0x1000 {
		return fmt.Errorf("%d virtio devices: at most %d", len(cfg.VirtioMMIO), 0x1000)
	}
	for i, d := range cfg.VirtioMMIO {
		if d.Size == 0 || d.Addr+d.Size < d.Addr || d.Addr+d.Size > 1<<32 {
			return fmt.Errorf("virtio device %d at %#x with %#x bytes is not below 4 GiB", i, d.Addr, d.Size)
		}
	}
	for _, a := range []uint64{cfg.LocalAPIC, cfg.IOAPIC} {
		if a == 0 || a >= 1<<32 {
			return fmt.Errorf("interrupt controller at %#x is not below 4 GiB", a)
		}
	}
	if cfg.Watchdog != nil {
		return cfg.Watchdog.check()
	}
	return nil
}
