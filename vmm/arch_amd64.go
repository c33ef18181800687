package vmm

import (
	"crypto/rand"
	"fmt"
	"time"

	"warder/boot"
	"warder/boot/acpi"
	"warder/boot/linuxamd64"
	"warder/devices/bus"
	"warder/devices/power"
	"warder/devices/rtc"
	"warder/devices/serial"
	"warder/devices/watchdog"
	"warder/kvm"
)

// machineType is KVM_CREATE_VM's argument: the only one there is.
const machineType = 0

// archMachine is what only an amd64 machine has.
type archMachine struct {
	ports bus.Bus
	ged   *power.GED
}

func (m *Machine) archCreate() error {
	// Without this an instruction of the guest's user mode that KVM can't
	// emulate would be an undefined one to the guest, and nobody would know.
	if ok, err := m.vm.Check(kvm.CapExitOnEmulationFailure); err == nil && ok > 0 {
		if err := m.vm.EnableCap(kvm.CapExitOnEmulationFailure, 0, 1); err != nil {
			return err
		}
	}
	if err := m.watchMSRs(); err != nil {
		return err
	}
	if err := m.vm.SetIdentityMapAddr(identityMapBase); err != nil {
		return fmt.Errorf("identity map: %w", err)
	}
	if err := m.vm.SetTSSAddr(tssBase); err != nil {
		return fmt.Errorf("TSS: %w", err)
	}
	if err := m.vm.CreateIRQChip(); err != nil {
		return fmt.Errorf("interrupt controllers: %w", err)
	}
	// Linux does without a PIT where it can read its clock's frequency from
	// KVM; other kernels and older ones measure against it.
	if err := m.vm.CreatePIT2(kvm.PITSpeakerDummy); err != nil {
		return fmt.Errorf("timer: %w", err)
	}
	return nil
}

func (m *Machine) archVCPUsCreated() error {
	supported, err := m.sys.SupportedCPUID()
	if err != nil {
		return err
	}
	for _, v := range m.vcpus {
		if err := v.fd.SetCPUID2(guestCPUID(supported, v.id, len(m.vcpus))); err != nil {
			return fmt.Errorf("CPUID of vCPU %d: %w", v.id, err)
		}
		if err := v.setBootMSRs(); err != nil {
			return fmt.Errorf("MSRs of vCPU %d: %w", v.id, err)
		}
		v.fd.SetValidRegs(kvm.SyncX86Regs)
	}
	return nil
}

// The MSRs whose reset values firmware would have changed (Intel SDM vol. 4).
const (
	msrMiscEnable     = 0x1a0
	miscFastStrings   = 1 << 0
	msrMTRRDefType    = 0x2ff
	mtrrEnabled       = 1 << 11
	mtrrTypeWriteBack = 6
)

// setBootMSRs leaves the state that firmware leaves: fast string operations
// on, all memory write-back. Without the latter Linux maps its RAM uncached.
func (v *VCPU) setBootMSRs() error {
	return v.fd.SetMSRs([]kvm.MSREntry{
		{Index: msrMiscEnable, Data: miscFastStrings},
		{Index: msrMTRRDefType, Data: mtrrEnabled | mtrrTypeWriteBack},
	})
}

// createPlatform wires what a PC has besides virtio devices.
func (m *Machine) createPlatform() error {
	com1, err := m.newLine(com1GSI)
	if err != nil {
		return err
	}
	ged, err := m.newLine(gedGSI)
	if err != nil {
		return err
	}
	m.uart = serial.New(m.serialOut(), com1)
	m.arch.ged = power.NewGED(ged)
	off, reset := m.guestEnds(PowerOff), m.guestEnds(Reset)
	for _, d := range []struct {
		port, size uint64
		dev        bus.Device
	}{
		{com1Port, serial.Size, m.uart},
		{cmosPort, rtc.CMOSSize, rtc.NewCMOS(time.Now)},
		{power.ACPIPort, power.ACPISize, power.NewACPI(off, reset)},
		{power.I8042Port, 1, power.NewI8042(reset)},
		{power.ResetControlPort, 1, power.NewResetControl(reset)},
	} {
		if err := m.arch.ports.Add(d.port, d.size, d.dev); err != nil {
			return err
		}
	}
	return m.mmio.Add(gedBase, power.GEDSize, m.arch.ged)
}

// PowerButton presses the machine's power button.
func (m *Machine) PowerButton() error { return m.arch.ged.Press() }

// virtioSlot is where virtio device i is and how it interrupts.
func virtioSlot(i int) (addr uint64, gsi uint32) {
	return virtioBase + uint64(i)*mmioWindow, virtioGSIs[i]
}

func (m *Machine) archLoad(kernel *boot.Kernel) ([]boot.Segment, error) {
	hw := acpi.Config{
		Base: acpiBase, CPUs: len(m.vcpus), LocalAPIC: lapicBase, IOAPIC: ioapicBase,
		Serial: &acpi.Port{Port: com1Port, GSI: com1GSI},
		RTC:    &acpi.Port{Port: cmosPort, GSI: rtcGSI},
		Power: acpi.Power{
			Event: gedBase, GSI: gedGSI,
			Reset:        acpi.Register{Space: acpi.SystemIO, Addr: power.ResetPort},
			ResetValue:   power.ResetValue,
			SleepControl: acpi.Register{Space: acpi.SystemIO, Addr: power.SleepControlPort},
			SleepStatus:  acpi.Register{Space: acpi.SystemIO, Addr: power.SleepStatusPort},
		},
	}
	if m.watchdog != nil {
		hw.Watchdog = &acpi.Watchdog{
			Load: watchdogBase + watchdog.Load, Control: watchdogBase + watchdog.Control, PingReg: watchdogBase + watchdog.IntClr,
			Ping: 1, Run: watchdog.Enable | watchdog.ControlReset,
			// It counts down twice before it expires.
			Period: 2 * 1000 / watchdog.Hz, MaxCount: 1 << 30,
		}
	}
	for i := range m.virtio {
		addr, gsi := virtioSlot(i)
		hw.VirtioMMIO = append(hw.VirtioMMIO, acpi.Device{Addr: addr, Size: mmioWindow, GSI: gsi})
	}
	seed := make([]byte, 64)
	if _, err := rand.Read(seed); err != nil {
		return nil, err
	}
	layout, err := linuxamd64.Setup(linuxamd64.Config{
		Kernel: kernel, RAM: m.bootRanges(), Cmdline: m.cfg.cmdline(), Initrd: m.cfg.Initrd,
		RNGSeed: seed, Machine: hw,
	})
	if err != nil {
		return nil, err
	}
	segments := append(layout.Segments, boot.Segment{Addr: resetVector, Data: resetCode})
	return segments, m.vcpus[0].enterAt(layout.CPU)
}

// resetCode is all there is of a BIOS. Linux takes reduced ACPI hardware for a
// machine with EFI, finds none, and at last jumps to where a BIOS would reset
// the machine; other systems start there.
var resetCode = []byte{
	0xba, power.ResetPort & 0xff, power.ResetPort >> 8, // mov $ResetPort, %dx
	0xb0, power.ResetValue, // mov $ResetValue, %al
	0xee, // out %al, (%dx)
	0xf4, // hlt
}

// enterAt puts the vCPU into the state that the kernel's entry asks for.
func (v *VCPU) enterAt(c linuxamd64.CPU) error {
	s, err := v.fd.GetSregs()
	if err != nil {
		return err
	}
	s.CR0, s.CR3, s.CR4, s.EFER = c.CR0, c.CR3, c.CR4, c.EFER
	s.CS, s.DS, s.SS = segment(c.CS), segment(c.DS), segment(c.SS)
	s.ES, s.FS, s.GS, s.TR = segment(c.ES), segment(c.FS), segment(c.GS), segment(c.TR)
	s.GDT = kvm.DescriptorTable{Base: c.GDT.Base, Limit: c.GDT.Limit}
	s.IDT = kvm.DescriptorTable{Base: c.IDT.Base, Limit: c.IDT.Limit}
	if err := v.setSregs(&s); err != nil {
		return fmt.Errorf("entry state: %w", err)
	}
	return v.fd.SetRegs(&kvm.Regs{RIP: c.RIP, RSP: c.RSP, RSI: c.RSI, RBX: c.RBX, RFLAGS: c.RFLAGS})
}

func segment(s linuxamd64.Selector) kvm.Segment {
	return kvm.Segment{
		Base: s.Base, Limit: s.Limit, Selector: s.Selector, Type: s.Type, DPL: s.DPL,
		Present: bit(s.Present), S: bit(!s.System), L: bit(s.Long), DB: bit(s.Big), G: bit(s.Granularity),
	}
}

func bit(b bool) uint8 {
	if b {
		return 1
	}
	return 0
}

func (v *VCPU) handleArch(e *kvm.Exit) *Exit {
	switch e.Reason {
	case kvm.ExitIO:
		return v.handleIO(e.IO())
	case kvm.ExitX86WRMSR:
		if err := v.writeMSR(e.MSR()); err != nil {
			return &Exit{Reason: Failed, Err: fmt.Errorf("write of a register: %w", err)}
		}
		return nil
	case kvm.ExitDebug:
		if err := v.handleDebug(e.Debug()); err != nil {
			return &Exit{Reason: Failed, Err: fmt.Errorf("breakpoint: %w", err)}
		}
		return nil
	case kvm.ExitHlt:
		// Only without an in-kernel interrupt controller: nothing could ever
		// wake the vCPU.
		return v.crash(fmt.Errorf("halted with no interrupt controller"))
	}
	return v.crash(fmt.Errorf("unexpected exit: %v", e.Reason))
}

// handleIO is one IN or OUT, or as many as a string instruction makes. Where
// there is no device reads give ones, as an ISA bus does.
func (v *VCPU) handleIO(io kvm.IO) *Exit {
	if io.Port == trapPort && io.Direction == kvm.IOOut {
		if err := v.trapped(); err != nil {
			return &Exit{Reason: Failed, Err: fmt.Errorf("trap: %w", err)}
		}
		return nil
	}
	if io.Port == hypercallPort && io.Direction == kvm.IOOut && io.Size == 4 {
		v.callWarder()
		return nil
	}
	for data := io.Data; len(data) > 0; data = data[io.Size:] {
		p := data[:io.Size]
		if io.Direction == kvm.IOOut {
			if !v.m.arch.ports.Write(uint64(io.Port), p) {
				v.stray(uint64(io.Port), true, true, p)
			}
		} else if !v.m.arch.ports.Read(uint64(io.Port), p) {
			for i := range p {
				p[i] = 0xff
			}
			v.stray(uint64(io.Port), true, false, p)
		}
	}
	return nil
}
