// Package power emulates the devices by which a guest ends its machine or is
// asked to: on amd64 the registers of hardware-reduced ACPI, a generic event
// device as power button, the PC's older reset ports; on arm64 a PL061 with a
// power key on one of its lines.
//
// arm64 has no register for power-off or reset: there PSCI, which KVM answers,
// does both.
//
// Callbacks run on the vCPU's thread that wrote the register. They must return
// soon, and a guest can cause any number of calls.
package power
