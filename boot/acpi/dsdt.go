package acpi

import "fmt"

// definitionBlock returns the body of the DSDT.
func definitionBlock(cfg Config) []byte {
	var devices [][]byte
	for i := range cfg.CPUs {
		devices = append(devices, device(fmt.Sprintf("C%03X", i),
			named("_HID", str("ACPI0007")),
			named("_UID", integer(uint64(i)))))
	}
	if p := cfg.Serial; p != nil {
		devices = append(devices, device("COM1",
			named("_HID", eisaID("PNP0501")),
			named("_UID", integer(1)),
			named("_CRS", resources(ioPorts(p.Port, 8), edge(p.GSI)))))
	}
	if p := cfg.RTC; p != nil {
		devices = append(devices, device("RTC_",
			named("_HID", eisaID("PNP0B00")),
			named("_CRS", resources(ioPorts(p.Port, 2), edge(p.GSI)))))
	}
	for i, d := range cfg.VirtioMMIO {
		devices = append(devices, device(fmt.Sprintf("V%03X", i),
			named("_HID", str("LNRO0005")),
			named("_UID", integer(uint64(i))),
			named("_CCA", integer(1)),
			named("_CRS", resources(memory32(uint32(d.Addr), uint32(d.Size)), edge(d.GSI)))))
	}
	devices = append(devices, powerButton(cfg.Power)...)
	s5 := integer(SleepTypeS5)
	return append(scope("_SB_", devices...), named("_S5_", packageOf(s5, s5, integer(0), integer(0)))...)
}

// powerButton is a button that is pressed through a generic event device: the
// event's handler reads, and thereby clears, what happened.
func powerButton(p Power) [][]byte {
	const pressed = 0x80 // notification of PNP0C0C, section 4.8.3.2.2.1
	events := []byte{opLocal0}
	return [][]byte{
		device("PWRB", named("_HID", eisaID("PNP0C0C"))),
		device("GED_",
			named("_HID", str("ACPI0013")),
			named("_UID", integer(0)),
			named("_CRS", resources(edge(p.GSI))),
			region("EVTR", SystemMemory, p.Event, 1),
			byteField("EVTR", "EVTS"),
			method("_EVT", methodOneArg|methodSerial,
				term(opStore, seg("EVTS"), events),
				ifSet(events, EventPowerButton,
					term(opNotify, seg("PWRB"), integer(pressed))))),
	}
}
