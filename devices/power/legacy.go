package power

// Ports by which a PC was reset before ACPI; guests fall back on them.
const (
	// I8042Port is the keyboard controller's command and status port.
	I8042Port = 0x64
	// ResetControlPort is the chipset's reset control register (Intel PIIX3
	// data sheet, section 2.1.8).
	ResetControlPort = 0xcf9

	i8042PulseReset = 0xfe   // pulse output line 0, which is the CPU's reset
	resetCPU        = 1 << 2 // RCPU
)

// I8042 is the one thing of a keyboard controller that a guest without keyboard
// may use: the reset pulse. It is a bus.Device of one byte at I8042Port.
type I8042 struct{ reset func() }

// NewI8042 returns the port; see the package's doc on callbacks.
func NewI8042(onReset func()) *I8042 { return &I8042{onReset} }

// Read implements bus.Device. The status is always that the controller is ready
// for a command.
func (*I8042) Read(_ uint64, p []byte) { clear(p) }

// Write implements bus.Device.
func (d *I8042) Write(off uint64, p []byte) {
	if off == 0 && len(p) > 0 && p[0] == i8042PulseReset {
		d.reset()
	}
}

// ResetControl is the chipset's reset register. It is a bus.Device of one byte at
// ResetControlPort.
type ResetControl struct{ reset func() }

// NewResetControl returns the port; see the package's doc on callbacks.
func NewResetControl(onReset func()) *ResetControl { return &ResetControl{onReset} }

// Read implements bus.Device.
func (*ResetControl) Read(_ uint64, p []byte) { clear(p) }

// Write implements bus.Device. Hard and soft reset are one here.
func (d *ResetControl) Write(off uint64, p []byte) {
	if off == 0 && len(p) > 0 && p[0]&resetCPU != 0 {
		d.reset()
	}
}
