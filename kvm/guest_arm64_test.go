package kvm_test

import (
	"encoding/binary"
	"errors"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"warder/internal/testkvm"
	"warder/kvm"
)

// code is instructions in memory.
func code(insns ...uint32) (b []byte) {
	for _, i := range insns {
		b = binary.LittleEndian.AppendUint32(b, i)
	}
	return b
}

// Instructions that the tests share.
const (
	hvc0        = 0xd4000002 // hvc #0
	nop         = 0xd503201f
	storeX0atX1 = 0xf9000020 // str x0, [x1]
)

// A dozen instructions at EL1: memory that is not there is MMIO, PSCI ends it.
func TestGuest(t *testing.T) {
	g := testkvm.NewGuest(t, code(
		0xd2a12001,  // mov  x1, #0x09000000
		0x528acf00,  // mov  w0, #0x5678
		0x72a24680,  // movk w0, #0x1234, lsl #16
		0xb9000020,  // str  w0, [x1]
		0xf9400420,  // ldr  x0, [x1, #8]
		0x91000400,  // add  x0, x0, #1
		0x79002020,  // strh w0, [x1, #16]
		0x39406020,  // ldrb w0, [x1, #24]
		storeX0atX1, // str  x0, [x1]
		0x52800100,  // mov  w0, #8
		0x72b08000,  // movk w0, #0x8400, lsl #16: PSCI SYSTEM_OFF
		hvc0,
	))
	const device = 0x09000000
	accesses(t, g, []mmioStep{
		{want: kvm.MMIO{Addr: device, Len: 4, IsWrite: true, Data: []byte{0x78, 0x56, 0x34, 0x12}}},
		{want: kvm.MMIO{Addr: device + 8, Len: 8}, answer: []byte{0xff, 1, 2, 3, 4, 5, 6, 7}},
		{want: kvm.MMIO{Addr: device + 16, Len: 2, IsWrite: true, Data: []byte{0, 2}}},
		{want: kvm.MMIO{Addr: device + 24, Len: 1}, answer: []byte{0x5a}},
		{want: kvm.MMIO{Addr: device, Len: 8, IsWrite: true, Data: []byte{0x5a, 0, 0, 0, 0, 0, 0, 0}}},
	})
	if e := g.Run(t, kvm.ExitSystemEvent).SystemEvent(); e.Type != kvm.SystemEventShutdown {
		t.Errorf("system event %v, want shutdown", e.Type)
	}
}

// PSCI SYSTEM_RESET2 is told apart from SYSTEM_RESET by the event's data.
func TestSystemReset(t *testing.T) {
	for name, c := range map[string]struct{ call, data uint64 }{
		"reset":  {0x84000009, 0},
		"reset2": {0xc4000012, 1},
	} {
		t.Run(name, func(t *testing.T) {
			g := testkvm.NewGuest(t, code(hvc0))
			testkvm.NeedCap(t, g.VM, kvm.CapSystemEventData)
			g.SetReg(t, kvm.RegX(0), c.call)
			e := g.Run(t, kvm.ExitSystemEvent).SystemEvent()
			if d := cmp.Diff(kvm.SystemEvent{Type: kvm.SystemEventReset, Data: []uint64{c.data}}, e); d != "" {
				t.Errorf("event (-want +got):\n%s", d)
			}
		})
	}
}

// Calls of a range in the SMCCC filter come to user space, which answers in
// registers.
func TestSMCCCFilter(t *testing.T) {
	g := testkvm.NewGuest(t, code(hvc0, storeX0atX1, 0xd4000003 /* smc #0 */))
	if !g.VM.HasSMCCCFilter() {
		testkvm.Missing(t, "an SMCCC filter, which Linux 6.4 has")
	}
	f := kvm.SMCCCFilter{Base: 0xc6000000, Count: 0x10, Action: kvm.SMCCCForwardToUser}
	if err := g.VM.SetSMCCCFilter(f); err != nil {
		t.Fatal(err)
	}
	if err := g.VM.SetSMCCCFilter(f); !errors.Is(err, unix.EEXIST) {
		t.Errorf("the same range again: %v, want EEXIST", err)
	}
	g.SetReg(t, kvm.RegX(0), 0xc6000005)
	g.SetReg(t, kvm.RegX(1), pauseAt)
	if h := g.Run(t, kvm.ExitHypercall).Hypercall(); h.Nr != 0xc6000005 || h.Flags != 0 {
		t.Errorf("HVC: %+v", h)
	}
	g.SetReg(t, kvm.RegX(0), 0xc6000007)
	if m := g.Run(t, kvm.ExitMMIO).MMIO(); binary.LittleEndian.Uint64(m.Data) != 0xc6000007 {
		t.Errorf("the guest got %x", m.Data)
	}
	if h := g.Run(t, kvm.ExitHypercall).Hypercall(); h.Nr != 0xc6000007 || h.Flags != kvm.HypercallSMC {
		t.Errorf("SMC: %+v", h)
	}
}

// BRK exits with its immediate, at the instruction; PC + 4 goes on.
func TestSoftwareBreakpoint(t *testing.T) {
	const imm = 0x5744
	g := testkvm.NewGuest(t, code(nop, 0xd4200000|imm<<5, storeX0atX1))
	testkvm.NeedCap(t, g.VM, kvm.CapSetGuestDebug)
	if err := g.CPU.SetGuestDebug(&kvm.GuestDebug{Control: kvm.DebugEnable | kvm.DebugSoftware}); err != nil {
		t.Fatal(err)
	}
	g.SetReg(t, kvm.RegX(1), pauseAt)
	d := g.Run(t, kvm.ExitDebug).Debug()
	if class := uint32(d.HSR) >> 26; class != 0x3c || d.HSR&0xffff != imm {
		t.Errorf("syndrome %#x, want BRK %#x", d.HSR, imm)
	}
	if pc := g.Reg(t, kvm.RegPC); pc != testkvm.Base+4 {
		t.Errorf("PC %#x, want at the BRK", pc)
	}
	g.SetReg(t, kvm.RegPC, testkvm.Base+8)
	g.Run(t, kvm.ExitMMIO)
}

// A hardware breakpoint stops before its instruction.
func TestHardwareBreakpoint(t *testing.T) {
	g := testkvm.NewGuest(t, code(nop, nop, storeX0atX1))
	if n := testkvm.NeedCap(t, g.VM, kvm.CapGuestDebugHWBPs); n < 1 {
		t.Errorf("%d breakpoints", n)
	}
	d := kvm.GuestDebug{Control: kvm.DebugEnable | kvm.DebugHardware}
	d.BVR[0], d.BCR[0] = testkvm.Base+4, 0x1e7
	if err := g.CPU.SetGuestDebug(&d); err != nil {
		t.Fatal(err)
	}
	if e := g.Run(t, kvm.ExitDebug).Debug(); uint32(e.HSR)>>26 != 0x30 {
		t.Errorf("syndrome %#x, want a breakpoint", e.HSR)
	}
	if pc := g.Reg(t, kvm.RegPC); pc != testkvm.Base+4 {
		t.Errorf("PC %#x", pc)
	}
}

// An access that the processor gives no syndrome for comes to user space too,
// and can be refused as hardware would.
func TestNoSyndrome(t *testing.T) {
	g := testkvm.NewGuest(t, code(0xa9000420)) // stp x0, x1, [x1]
	testkvm.NeedCap(t, g.VM, kvm.CapARMNISVToUser)
	testkvm.NeedCap(t, g.VM, kvm.CapARMInjectExtDABT)
	if err := g.VM.EnableCap(kvm.CapARMNISVToUser, 0); err != nil {
		t.Fatal(err)
	}
	g.SetReg(t, kvm.RegX(1), pauseAt)
	g.SetReg(t, kvm.RegVBAREL1, testkvm.Base+0x800)
	copy(g.Memory[0x800+0x200:], code(storeX0atX1)) // synchronous, EL1 with SP_EL1
	const wnr = 1 << 6
	if n := g.Run(t, kvm.ExitArmNISV).ArmNISV(); n.FaultIPA != pauseAt || n.ESRISS&wnr == 0 {
		t.Errorf("%+v, want a write to %#x", n, pauseAt)
	}
	if err := g.CPU.SetVCPUEvents(&kvm.VCPUEvents{ExtDABTPending: 1}); err != nil {
		t.Fatal(err)
	}
	g.Run(t, kvm.ExitMMIO)
	if esr := g.Reg(t, kvm.RegESREL1); esr>>26 != 0x25 {
		t.Errorf("ESR_EL1 %#x, want a data abort", esr)
	}
	if far := g.Reg(t, kvm.RegFAREL1); far != pauseAt {
		t.Errorf("FAR_EL1 %#x", far)
	}
}

// The ids of registers lead to the registers that the guest sees.
func TestRegisters(t *testing.T) {
	// Each reads a register into x0 and shows it.
	for name, c := range map[string]struct {
		mrs uint32
		reg kvm.Reg
	}{
		"TPIDR_EL1":    {0xd538d080, kvm.RegTPIDREL1},
		"TPIDR_EL0":    {0xd53bd040, kvm.RegTPIDREL0},
		"TPIDRRO_EL0":  {0xd53bd060, kvm.RegTPIDRROEL0},
		"TTBR0_EL1":    {0xd5382000, kvm.RegTTBR0EL1},
		"TTBR1_EL1":    {0xd5382020, kvm.RegTTBR1EL1},
		"VBAR_EL1":     {0xd538c000, kvm.RegVBAREL1},
		"FAR_EL1":      {0xd5386000, kvm.RegFAREL1},
		"CONTEXTIDR":   {0xd538d020, kvm.RegCONTEXTIDREL1},
		"SP_EL0":       {0xd5384100, kvm.RegSPEL0},
		"ELR_EL1":      {0xd5384020, kvm.RegELREL1},
		"SysReg(FAR)":  {0xd5386000, kvm.SysReg(3, 0, 6, 0, 0)},
		"SysReg(MAIR)": {0xd538a200, kvm.SysReg(3, 0, 10, 2, 0)},
	} {
		t.Run(name, func(t *testing.T) {
			g := testkvm.NewGuest(t, code(c.mrs, storeX0atX1))
			const value = 0x12345000
			g.SetReg(t, c.reg, value)
			g.SetReg(t, kvm.RegX(1), pauseAt)
			m := g.Run(t, kvm.ExitMMIO).MMIO()
			if got := binary.LittleEndian.Uint64(m.Data); got != value {
				t.Errorf("the guest reads %#x, want %#x", got, value)
			}
			if got := g.Reg(t, c.reg); got != value {
				t.Errorf("read back %#x, want %#x", got, value)
			}
		})
	}
	t.Run("list", func(t *testing.T) {
		g := testkvm.NewGuest(t, nil)
		list, err := g.CPU.RegList()
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range []kvm.Reg{
			kvm.RegX(0), kvm.RegX(30), kvm.RegLR, kvm.RegPC, kvm.RegPState, kvm.RegSPEL0, kvm.RegSPEL1, kvm.RegELREL1,
			kvm.RegSPSREL1, kvm.RegV(0), kvm.RegV(31), kvm.RegFPSR, kvm.RegFPCR,
			kvm.RegMPIDREL1, kvm.RegMIDREL1, kvm.RegIDAA64PFR0, kvm.RegIDAA64PFR1, kvm.RegIDAA64DFR0, kvm.RegIDAA64ISAR0,
			kvm.RegIDAA64ISAR1, kvm.RegIDAA64MMFR0, kvm.RegIDAA64MMFR1, kvm.RegIDAA64MMFR2,
			kvm.RegSCTLREL1, kvm.RegCPACREL1, kvm.RegTCREL1, kvm.RegAFSR0EL1, kvm.RegAFSR1EL1, kvm.RegESREL1, kvm.RegPAREL1,
			kvm.RegMAIREL1, kvm.RegAMAIREL1, kvm.RegCNTKCTLEL1,
			kvm.RegTimerCtl, kvm.RegTimerCVal, kvm.RegTimerCount, kvm.RegPTimerCtl, kvm.RegPTimerCVal, kvm.RegPTimerCnt,
			kvm.RegPSCIVersion,
		} {
			if !slices.Contains(list, r) {
				t.Errorf("register %#x is not among the %d that KVM has", uint64(r), len(list))
			}
		}
	})
	t.Run("wide", func(t *testing.T) {
		g := testkvm.NewGuest(t, nil)
		want := []byte("sixteen bytes <=")
		if err := g.CPU.SetOneRegBytes(kvm.RegV(7), want); err != nil {
			t.Fatal(err)
		}
		got := make([]byte, 16)
		if err := g.CPU.GetOneRegBytes(kvm.RegV(7), got); err != nil || string(got) != string(want) {
			t.Errorf("%q, %v", got, err)
		}
		if _, err := g.CPU.GetOneReg(kvm.RegV(7)); err == nil {
			t.Error("16 bytes went into a uint64")
		}
		if err := g.CPU.GetOneRegBytes(kvm.RegV(7), got[:15]); err == nil {
			t.Error("16 bytes went into 15")
		}
		if _, err := g.CPU.GetOneReg(kvm.SysReg(3, 7, 15, 15, 7)); !errors.Is(err, unix.ENOENT) {
			t.Errorf("a register that there is not: %v, want ENOENT", err)
		}
	})
}

// A vCPU that was not initialised does not run, and stopped ones can be started.
func TestInit(t *testing.T) {
	sys := testkvm.Open(t)
	vm, err := sys.CreateVM(0)
	if err != nil {
		t.Fatal(err)
	}
	defer vm.Close()
	cpu, err := vm.CreateVCPU(0)
	if err != nil {
		t.Fatal(err)
	}
	defer cpu.Close()
	if err := cpu.Run(); !errors.Is(err, unix.ENOEXEC) {
		t.Errorf("Run before Init: %v, want ENOEXEC", err)
	}
	target, err := vm.PreferredTarget()
	if err != nil {
		t.Fatal(err)
	}
	target.Set(kvm.FeaturePSCI02)
	target.Set(kvm.FeaturePowerOff)
	if err := cpu.Init(target); err != nil {
		t.Fatal(err)
	}
	if s, err := cpu.MPState(); err != nil || s != kvm.MPStopped {
		t.Errorf("state %v, %v, want stopped", s, err)
	}
	if err := cpu.SetMPState(kvm.MPRunnable); err != nil {
		t.Fatal(err)
	}
	if s, err := cpu.MPState(); err != nil || s != kvm.MPRunnable {
		t.Errorf("state %v, %v, want runnable", s, err)
	}
	if err := cpu.Finalize(kvm.FeaturePMUv3); !errors.Is(err, unix.EINVAL) {
		t.Errorf("Finalize of a feature that has nothing to finalise: %v, want EINVAL", err)
	}
	bad := target
	bad.Target = 999
	if err := cpu.Init(bad); !errors.Is(err, unix.EINVAL) {
		t.Errorf("a target that there is not: %v, want EINVAL", err)
	}
}

// The interrupt controller of the kernel, an irqfd into it, and what is set on a
// vCPU before it runs.
func TestVGIC(t *testing.T) {
	testkvm.Need(t)
	g := testkvm.NewGuest(t, code(nop))
	testkvm.NeedCap(t, g.VM, kvm.CapDeviceCtrl)
	if _, err := g.VM.CreateDevice(99, 0); !errors.Is(err, unix.ENODEV) {
		t.Errorf("device 99: %v, want ENODEV", err)
	}
	if _, err := g.VM.CreateDevice(kvm.DeviceVGICv3, kvm.CreateDeviceTest); err != nil {
		t.Fatal(err)
	}
	gic, err := g.VM.CreateDevice(kvm.DeviceVGICv3, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer gic.Close()
	if gic.HasAttr(99, 0) {
		t.Error("group 99 is there")
	}
	for _, step := range []error{
		gic.SetAttrUint64(kvm.VGICGroupAddr, kvm.VGICv3AddrDist, 0x08000000),
		gic.SetAttrUint64(kvm.VGICGroupAddr, kvm.VGICv3AddrRedist, 0x080a0000),
		gic.SetAttrUint32(kvm.VGICGroupNRIRQs, 0, 96),
		gic.SetAttr(kvm.VGICGroupCtrl, kvm.VGICCtrlInit),
	} {
		if step != nil {
			t.Fatal(step)
		}
	}
	if a, err := gic.GetAttrUint64(kvm.VGICGroupAddr, kvm.VGICv3AddrDist); err != nil || a != 0x08000000 {
		t.Errorf("distributor at %#x, %v", a, err)
	}
	if n, err := gic.GetAttrUint32(kvm.VGICGroupNRIRQs, 0); err != nil || n != 96 {
		t.Errorf("%d interrupts, %v", n, err)
	}

	const distRegs, ispendr1 = 1, 0x204 // KVM_DEV_ARM_VGIC_GRP_DIST_REGS
	pending := func() uint32 {
		t.Helper()
		v, err := gic.GetAttrUint32(distRegs, ispendr1)
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	if err := g.VM.IRQLine(kvm.SPI(35), true); err != nil {
		t.Fatal(err)
	}
	if err := g.VM.IRQLine(kvm.SPI(31), true); !errors.Is(err, unix.EINVAL) {
		t.Errorf("an SPI below 32: %v, want EINVAL", err)
	}
	if p := pending(); p&(1<<3) == 0 {
		// The pending register tells latched interrupts only; the line is level.
		const levelInfo = 7 // KVM_DEV_ARM_VGIC_GRP_LEVEL_INFO
		l, err := gic.GetAttrUint32(levelInfo, 32)
		if err != nil || l&(1<<3) == 0 {
			t.Errorf("SPI 35 high: pending %#x, lines %#x, %v", p, l, err)
		}
	}
	testkvm.NeedCap(t, g.VM, kvm.CapIRQFD)
	fd := eventfd(t)
	if err := g.VM.IRQFD(kvm.IRQFD{FD: fd, GSI: 4}); err != nil { // GSI n is SPI 32+n
		t.Fatal(err)
	}
	if err := gic.SetAttrUint32(distRegs, 0xc08, 0x200); err != nil { // ICFGR2: SPI 36 is edge-triggered
		t.Fatal(err)
	}
	signal(t, fd)
	eventually(t, "SPI 36 is pending after its irqfd", func() bool { return pending()&(1<<4) != 0 })

	if !g.CPU.HasAttr(kvm.VCPUGroupTimer, kvm.VCPUTimerIRQVTimer) {
		t.Error("the timer's interrupt cannot be set")
	}
	if err := g.CPU.SetAttrUint32(kvm.VCPUGroupTimer, kvm.VCPUTimerIRQVTimer, 27); err != nil {
		t.Error(err)
	}
}

// The counter that the guest reads can be moved.
func TestCounterOffset(t *testing.T) {
	g := testkvm.NewGuest(t, code(0xd53be040 /* mrs x0, cntvct_el0 */, storeX0atX1), func(vm *kvm.VM) {
		testkvm.NeedCap(t, vm, kvm.CapCounterOffset)
	})
	// The guest's counter is the host's less the offset.
	ahead := uint64(1) << 56
	if err := g.VM.SetCounterOffset(-ahead); err != nil {
		t.Fatal(err)
	}
	g.SetReg(t, kvm.RegX(1), pauseAt)
	m := g.Run(t, kvm.ExitMMIO).MMIO()
	if got := binary.LittleEndian.Uint64(m.Data); got < ahead {
		t.Errorf("the guest's counter is %#x, want beyond %#x", got, ahead)
	}
}

// A write to a read-only slot is an MMIO exit, and is not done.
func TestReadOnlyMemory(t *testing.T) {
	g := storeGuest(t)
	testkvm.NeedCap(t, g.VM, kvm.CapReadOnlyMem)
	m := page(t)
	m[0] = 41
	if err := g.VM.SetMemory(region(m, kvm.MemReadOnly)); err != nil {
		t.Fatal(err)
	}
	got := storeExits(t, g, second, 42)
	if d := cmp.Diff(kvm.MMIO{Addr: second, Len: 4, IsWrite: true, Data: []byte{42, 0, 0, 0}}, got); d != "" {
		t.Errorf("write (-want +got):\n%s", d)
	}
	if m[0] != 41 {
		t.Error("the write was done")
	}
}
