// Package acpi writes the ACPI tables of an x86 virtual machine with
// reduced hardware (ACPI 6.5, section 4.1).
package acpi

import "errors"

// Config says which hardware the tables describe.
type Config struct {
	Base       uint64 // guest-physical address of the tables, 16-byte aligned; the RSDP is first
	CPUs       int    // APIC ids are 0 to CPUs-1
	LocalAPIC  uint64 // usually 0xfee00000
	IOAPIC     uint64 // usually 0xfec00000; its inputs are the GSIs from 0
	Serial     *Port  // 16550A
	RTC        *Port  // MC146818, two ports
	VirtioMMIO []Device
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

// Build returns the tables, to be placed at cfg.Base.
func Build(cfg Config) ([]byte, error) { return nil, errors.ErrUnsupported }
