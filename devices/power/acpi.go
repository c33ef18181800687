package power

// The system I/O ports of the fixed hardware registers, one byte each, as the
// FADT tells the guest.
const (
	ACPIPort          = 0x600
	ACPISize          = 3
	SleepControlPort  = ACPIPort + sleepControl // FADT SLEEP_CONTROL_REG
	SleepStatusPort   = ACPIPort + sleepStatus  // FADT SLEEP_STATUS_REG
	ResetPort         = ACPIPort + resetControl // FADT RESET_REG
	ResetValue        = 0x42                    // FADT RESET_VALUE
	SoftOffSleepType  = 5                       // SLP_TYPx of \_S5 in the DSDT
	sleepControl      = 0
	sleepStatus       = 1
	resetControl      = 2
	sleepTypeShift    = 2      // SLP_TYPx, bits 4:2
	sleepTypeMask     = 7 << 2 //
	sleepEnable       = 1 << 5 // SLP_EN
	sleepStatusWakeUp = 1 << 7 // WAK_STS: this machine never wakes up
)

// ACPI is the sleep registers and the reset register of hardware-reduced ACPI
// (ACPI 6.5, sections 4.8.3.6 and 4.8.3.7). It is a bus.Device of ACPISize bytes
// at ACPIPort.
type ACPI struct {
	powerOff, reset func()
}

// NewACPI returns the registers; see the package's doc on callbacks.
func NewACPI(onPowerOff, onReset func()) *ACPI {
	return &ACPI{powerOff: onPowerOff, reset: onReset}
}

// Read implements bus.Device: SLEEP_CONTROL and the reset register are
// write-only, SLEEP_STATUS has nothing to tell.
func (a *ACPI) Read(_ uint64, p []byte) { clear(p) }

// Write implements bus.Device.
func (a *ACPI) Write(off uint64, p []byte) {
	for i, v := range p {
		switch off + uint64(i) {
		case sleepControl:
			if v&sleepEnable != 0 && v&sleepTypeMask == SoftOffSleepType<<sleepTypeShift {
				a.powerOff()
			}
		case resetControl:
			if v == ResetValue {
				a.reset()
			}
		}
	}
}
