package vmm

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"warder/boot"
	"warder/boot/fdt"
	"warder/boot/linuxarm64"
	"warder/devices/bus"
	"warder/devices/guestmem"
	"warder/devices/power"
	"warder/devices/rtc"
	"warder/devices/serial"
	"warder/devices/watchdog"
	"warder/kvm"
)

// machineType is KVM_CREATE_VM's argument: 0 is a 40-bit guest-physical space.
const machineType = 0

// archMachine is what only an arm64 machine has.
type archMachine struct {
	gpio       *power.PL061
	gicVersion int
	halves     []kernelHalf // of each vCPU
}

// archCreate asks for an exit where a guest accesses what is not memory by an
// instruction that the CPU does not take apart. Without it KVM_RUN fails, and
// does not say for which address.
func (m *Machine) archCreate() error {
	if err := m.watchCalls(); err != nil {
		return err
	}
	if ok, err := m.vm.Check(kvm.CapARMNISVToUser); err == nil && ok > 0 {
		return m.vm.EnableCap(kvm.CapARMNISVToUser, 0)
	}
	return nil
}

// archVCPUsCreated initialises the vCPUs and then the interrupt controller,
// which has to know all of them.
func (m *Machine) archVCPUsCreated() error {
	init, err := m.vm.PreferredTarget()
	if err != nil {
		return fmt.Errorf("CPU model: %w", err)
	}
	init.Set(kvm.FeaturePSCI02)
	m.arch.halves = make([]kernelHalf, len(m.vcpus))
	for _, v := range m.vcpus {
		features := init
		if v.id > 0 {
			// The guest starts it by PSCI CPU_ON.
			features.Set(kvm.FeaturePowerOff)
		}
		if err := v.fd.Init(features); err != nil {
			return fmt.Errorf("vCPU %d: %w", v.id, err)
		}
	}
	return m.createGIC()
}

// createGIC makes the interrupt controller that the host offers: GICv3, or
// GICv2 on boards whose own is one.
func (m *Machine) createGIC() error {
	m.arch.gicVersion = 3
	distributor, second, secondBase := uint64(kvm.VGICv3AddrDist), uint64(kvm.VGICv3AddrRedist), uint64(gicRedistributor)
	gic, err := m.vm.CreateDevice(kvm.DeviceVGICv3, 0)
	if errors.Is(err, unix.ENODEV) {
		m.arch.gicVersion = 2
		if n := len(m.vcpus); n > maxCPUsV2 {
			return fmt.Errorf("%d CPUs: this host has a GICv2, which serves %d", n, maxCPUsV2)
		}
		distributor, second, secondBase = kvm.VGICv2AddrDist, kvm.VGICv2AddrCPU, gicCPUInterface
		gic, err = m.vm.CreateDevice(kvm.DeviceVGICv2, 0)
	}
	if err != nil {
		return fmt.Errorf("interrupt controller: the host offers neither GICv3 nor GICv2: %w", err)
	}
	m.onClose(gic.Close)
	if err := gic.SetAttrUint64(kvm.VGICGroupAddr, distributor, gicDistributor); err != nil {
		return fmt.Errorf("GIC distributor: %w", err)
	}
	if err := gic.SetAttrUint64(kvm.VGICGroupAddr, second, secondBase); err != nil {
		return fmt.Errorf("GIC CPU side: %w", err)
	}
	if err := gic.SetAttrUint32(kvm.VGICGroupNRIRQs, 0, interrupts); err != nil {
		return fmt.Errorf("GIC with %d interrupts: %w", interrupts, err)
	}
	if err := gic.SetAttr(kvm.VGICGroupCtrl, kvm.VGICCtrlInit); err != nil {
		return fmt.Errorf("GIC: %w", err)
	}
	return nil
}

// createPlatform wires what a board has besides virtio devices.
func (m *Machine) createPlatform() error {
	uart, err := m.newLine(uartSPI)
	if err != nil {
		return err
	}
	gpio, err := m.newLine(gpioSPI)
	if err != nil {
		return err
	}
	m.uart = serial.New(m.serialOut(), uart)
	m.arch.gpio = power.NewPL061(gpio, powerKeyPin)
	m.onClose(m.arch.gpio.Close)
	for _, d := range []struct {
		addr, size uint64
		dev        bus.Device
	}{
		{uartBase, serial.Size, m.uart},
		{rtcBase, rtc.PL031Size, rtc.NewPL031(time.Now)},
		{gpioBase, power.PL061Size, m.arch.gpio},
	} {
		if err := m.mmio.Add(d.addr, d.size, d.dev); err != nil {
			return err
		}
	}
	return nil
}

// PowerButton presses the machine's power button.
func (m *Machine) PowerButton() error { return m.arch.gpio.Press() }

// virtioSlot is where virtio device i is and how it interrupts.
func virtioSlot(i int) (addr uint64, spi uint32) {
	return virtioBase + uint64(i)*mmioWindow, virtioSPI + uint32(i)
}

func (m *Machine) archLoad(kernel *boot.Kernel) ([]boot.Segment, error) {
	seed := make([]byte, 64+8)
	if _, err := rand.Read(seed); err != nil {
		return nil, err
	}
	hw := fdt.Config{
		CPUs:      len(m.vcpus),
		Bootargs:  m.cfg.cmdline(),
		RNGSeed:   seed[8:],
		KASLRSeed: binary.NativeEndian.Uint64(seed),
		GIC:       m.gic(),
		Serial:    &fdt.Device{Addr: uartBase, Size: mmioWindow, SPI: uartSPI},
		RTC:       &fdt.Device{Addr: rtcBase, Size: rtc.PL031Size, SPI: rtcSPI},
		GPIO:      &fdt.Device{Addr: gpioBase, Size: power.PL061Size, SPI: gpioSPI},
		PowerLine: powerKeyPin,
	}
	for _, r := range m.bootRanges() {
		hw.RAM = append(hw.RAM, fdt.Range{Base: r.Base, Size: r.Size})
	}
	if m.watchdog != nil {
		hw.Watchdog = &fdt.Device{Addr: watchdogBase, Size: watchdog.Size, SPI: watchdogSPI}
		hw.WatchdogHz = watchdog.Hz
	}
	for i := range m.virtio {
		addr, spi := virtioSlot(i)
		hw.VirtioMMIO = append(hw.VirtioMMIO, fdt.Device{Addr: addr, Size: mmioWindow, SPI: spi})
	}
	layout, err := linuxarm64.Setup(linuxarm64.Config{Kernel: kernel, Initrd: m.cfg.Initrd, Machine: hw})
	if err != nil {
		return nil, err
	}
	return layout.Segments, m.vcpus[0].enterAt(layout.CPU)
}

func (m *Machine) gic() fdt.GIC {
	g := fdt.GIC{
		Version:     m.arch.gicVersion,
		Distributor: fdt.Range{Base: gicDistributor, Size: 64 * kib},
		Second:      fdt.Range{Base: gicRedistributor, Size: uint64(len(m.vcpus)) * redistributorSize},
	}
	if g.Version == 2 {
		g.Distributor.Size = 4 * kib
		g.Second = fdt.Range{Base: gicCPUInterface, Size: 8 * kib}
	}
	return g
}

// enterAt puts the vCPU into the state that the kernel's entry asks for.
func (v *VCPU) enterAt(c linuxarm64.CPU) error {
	for _, r := range []struct {
		id    kvm.Reg
		value uint64
	}{
		{kvm.RegPC, c.PC}, {kvm.RegX(0), c.X0}, {kvm.RegPState, c.PState},
	} {
		if err := v.fd.SetOneReg(r.id, r.value); err != nil {
			return fmt.Errorf("entry state: %w", err)
		}
	}
	return nil
}

func (v *VCPU) handleArch(e *kvm.Exit) *Exit {
	switch e.Reason {
	case kvm.ExitDebug:
		if err := v.handleDebug(e.Debug()); err != nil {
			return &Exit{Reason: Failed, Err: fmt.Errorf("breakpoint: %w", err)}
		}
		return nil
	case kvm.ExitHypercall:
		if err := v.firmwareCall(e.Hypercall()); err != nil {
			return &Exit{Reason: Failed, Err: fmt.Errorf("firmware call: %w", err)}
		}
		return nil
	case kvm.ExitArmNISV:
		return v.handleOpaque(e.ArmNISV())
	}
	return v.crash(fmt.Errorf("unexpected exit: %v", e.Reason))
}

// handleOpaque is an access of which the CPU does not say what it was: a pair of
// registers, say. A write to a file that the guest may only read is refused as
// hardware would, by an external abort; anywhere else it is the end.
func (v *VCPU) handleOpaque(n kvm.ArmNISV) *Exit {
	if v.m.mem.Attached(guestmem.Addr(n.FaultIPA)) {
		if err := v.fd.SetVCPUEvents(&kvm.VCPUEvents{ExtDABTPending: 1}); err != nil {
			return &Exit{Reason: Failed, Err: fmt.Errorf("external abort: %w", err)}
		}
		return nil
	}
	return v.crash(fmt.Errorf("an access to guest address %#x, where no memory is, by an instruction that can't be taken apart", n.FaultIPA))
}
