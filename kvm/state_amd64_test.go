package kvm_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"warder/internal/testkvm"
	"warder/kvm"
)

// All the state of a vCPU can be read, changed and read back.
func TestVCPUState(t *testing.T) {
	g := testkvm.NewGuest(t, []byte{0xf4}, func(vm *kvm.VM) {
		if err := vm.CreateIRQChip(); err != nil {
			t.Fatal(err)
		}
	})
	cpuid, err := g.System.SupportedCPUID()
	if err != nil || len(cpuid) < 10 {
		t.Fatalf("%d CPUID entries, %v", len(cpuid), err)
	}
	if err := g.CPU.SetCPUID2(cpuid); err != nil {
		t.Fatal(err)
	}
	t.Run("regs", func(t *testing.T) {
		want := kvm.Regs{RAX: 1, RBX: 2, RCX: 3, RDX: 4, RSI: 5, RDI: 6, RSP: 7, RBP: 8, R8: 9, R9: 10, R10: 11,
			R11: 12, R12: 13, R13: 14, R14: 15, R15: 16, RIP: 17, RFLAGS: 2}
		if err := g.CPU.SetRegs(&want); err != nil {
			t.Fatal(err)
		}
		got, err := g.CPU.GetRegs()
		same(t, want, got, err)
	})
	t.Run("sregs", func(t *testing.T) {
		want, err := g.CPU.GetSregs()
		if err != nil {
			t.Fatal(err)
		}
		want.CR2, want.GDT = 0xdead000, kvm.DescriptorTable{Base: 0x1234000, Limit: 0xff}
		if err := g.CPU.SetSregs(&want); err != nil {
			t.Fatal(err)
		}
		got, err := g.CPU.GetSregs()
		same(t, want, got, err)
	})
	t.Run("fpu", func(t *testing.T) {
		want, err := g.CPU.GetFPU()
		if err != nil {
			t.Fatal(err)
		}
		want.XMM[15][7], want.FPR[3][0] = 0x5a, 0xa5
		if err := g.CPU.SetFPU(&want); err != nil {
			t.Fatal(err)
		}
		got, err := g.CPU.GetFPU()
		same(t, want, got, err)
	})
	t.Run("msrs", func(t *testing.T) {
		const sysenterCS, kernelGS = 0x174, 0xc0000102
		want := []kvm.MSREntry{{Index: kernelGS, Data: 0xffff888000001000}, {Index: sysenterCS, Data: 0x10}}
		if err := g.CPU.SetMSRs(want); err != nil {
			t.Fatal(err)
		}
		got := []kvm.MSREntry{{Index: kernelGS}, {Index: sysenterCS}}
		n, err := g.CPU.GetMSRs(got)
		same(t, want, got, err)
		if n != 2 {
			t.Errorf("%d of 2", n)
		}
		if err := g.CPU.SetMSRs([]kvm.MSREntry{{Index: 0x12345678}}); err == nil {
			t.Error("a register that there is not was set")
		}
		if list, err := g.System.MSRIndexList(); err != nil || len(list) < 10 {
			t.Errorf("%d registers, %v", len(list), err)
		}
	})
	t.Run("lapic", func(t *testing.T) {
		want, err := g.CPU.GetLAPIC()
		if err != nil {
			t.Fatal(err)
		}
		want.Regs[0xf0], want.Regs[0xf1] = 0xff, 1 // spurious vector 255, enabled
		if err := g.CPU.SetLAPIC(&want); err != nil {
			t.Fatal(err)
		}
		got, err := g.CPU.GetLAPIC()
		same(t, want, got, err)
	})
	t.Run("events", func(t *testing.T) {
		testkvm.NeedCap(t, g.VM, kvm.CapVCPUEvents)
		want, err := g.CPU.GetVCPUEvents()
		if err != nil {
			t.Fatal(err)
		}
		want.NMI.Masked, want.SIPIVector = 1, 9
		want.Flags = kvm.EventsSIPIVector | kvm.EventsNMIPending
		if err := g.CPU.SetVCPUEvents(&want); err != nil {
			t.Fatal(err)
		}
		got, err := g.CPU.GetVCPUEvents()
		if got.NMI.Masked != 1 || err != nil {
			t.Errorf("%+v, %v", got, err)
		}
	})
	t.Run("mp state", func(t *testing.T) {
		testkvm.NeedCap(t, g.VM, kvm.CapMPState)
		if err := g.CPU.SetMPState(kvm.MPHalted); err != nil {
			t.Fatal(err)
		}
		got, err := g.CPU.MPState()
		same(t, kvm.MPHalted, got, err)
	})
	t.Run("xsave", func(t *testing.T) {
		testkvm.NeedCap(t, g.VM, kvm.CapXSAVE)
		want, err := g.CPU.GetXSAVE()
		if err != nil {
			t.Fatal(err)
		}
		want.Region[160/4+1] = 0xfeed // XMM0
		want.Region[512/4] |= 3       // x87 and SSE are in use
		if err := g.CPU.SetXSAVE(want); err != nil {
			t.Fatal(err)
		}
		got, err := g.CPU.GetXSAVE()
		if err != nil || got.Region[160/4+1] != 0xfeed {
			t.Errorf("XMM0 holds %#x, %v", got.Region[160/4+1], err)
		}
	})
	t.Run("xcrs", func(t *testing.T) {
		testkvm.NeedCap(t, g.VM, kvm.CapXCRS)
		want, err := g.CPU.GetXCRS()
		if err != nil || want.N != 1 || want.XCRs[0].Value&1 == 0 {
			t.Fatalf("%+v, %v", want, err)
		}
		want.XCRs[0].Value = 3
		if err := g.CPU.SetXCRS(&want); err != nil {
			t.Fatal(err)
		}
		got, err := g.CPU.GetXCRS()
		same(t, want, got, err)
	})
	t.Run("debug registers", func(t *testing.T) {
		testkvm.NeedCap(t, g.VM, kvm.CapDebugRegs)
		want, err := g.CPU.GetDebugRegs()
		if err != nil {
			t.Fatal(err)
		}
		want.DB[2] = 0xabc000
		if err := g.CPU.SetDebugRegs(&want); err != nil {
			t.Fatal(err)
		}
		got, err := g.CPU.GetDebugRegs()
		same(t, want, got, err)
	})
	t.Run("cpuid", func(t *testing.T) {
		got, err := g.CPU.GetCPUID2(2 * len(cpuid))
		if err != nil || len(got) != len(cpuid) {
			t.Errorf("%d entries, want %d, %v", len(got), len(cpuid), err)
		}
	})
	t.Run("tsc", func(t *testing.T) {
		testkvm.NeedCap(t, g.VM, kvm.CapGetTSCKHz)
		if khz, err := g.CPU.GetTSCKHz(); err != nil || khz < 100_000 {
			t.Errorf("%d kHz, %v", khz, err)
		}
	})
	t.Run("nmi", func(t *testing.T) {
		testkvm.NeedCap(t, g.VM, kvm.CapUserNMI)
		if err := g.CPU.NMI(); err != nil {
			t.Error(err)
		}
	})
}

// The interrupt controllers of the kernel, and each way to an interrupt.
func TestInterruptControllers(t *testing.T) {
	g := testkvm.NewGuest(t, []byte{0xf4}, func(vm *kvm.VM) {
		if err := vm.CreateIRQChip(); err != nil {
			t.Fatal(err)
		}
	})
	pending := func() (irr uint8) {
		c, err := g.VM.GetIRQChip(kvm.ChipPICMaster)
		if err != nil {
			t.Fatal(err)
		}
		return c.State[1] // kvm_pic_state.irr
	}
	if err := g.VM.IRQLine(5, true); err != nil {
		t.Fatal(err)
	}
	if irr := pending(); irr != 1<<5 {
		t.Errorf("line 5 high: pending %#x", irr)
	}
	if err := g.VM.IRQLine(5, false); err != nil {
		t.Fatal(err)
	}

	t.Run("irqfd", func(t *testing.T) {
		testkvm.NeedCap(t, g.VM, kvm.CapIRQFD)
		fd := eventfd(t)
		if err := g.VM.IRQFD(kvm.IRQFD{FD: fd, GSI: 3}); err != nil {
			t.Fatal(err)
		}
		signal(t, fd)
		eventually(t, "line 3 is pending after its irqfd", func() bool { return pending()&(1<<3) != 0 })
		if err := g.VM.IRQFD(kvm.IRQFD{FD: fd, GSI: 3, Flags: kvm.IRQFDDeassign}); err != nil {
			t.Error(err)
		}
	})
	t.Run("routing and MSI", func(t *testing.T) {
		testkvm.NeedCap(t, g.VM, kvm.CapIRQRouting)
		testkvm.NeedCap(t, g.VM, kvm.CapSignalMSI)
		l, err := g.CPU.GetLAPIC()
		if err != nil {
			t.Fatal(err)
		}
		l.Regs[0xf0], l.Regs[0xf1] = 0xff, 1 // enabled by software
		if err := g.CPU.SetLAPIC(&l); err != nil {
			t.Fatal(err)
		}
		requested := func(vector int) bool {
			l, err := g.CPU.GetLAPIC()
			if err != nil {
				t.Fatal(err)
			}
			return l.Regs[0x200+vector/32*16+vector%32/8]>>(vector%8)&1 != 0
		}
		to := func(vector uint32) kvm.MSI { return kvm.MSI{Address: 0xfee00000, Data: vector} }
		if ok, err := g.VM.SignalMSI(to(0x41)); err != nil || !ok {
			t.Errorf("delivered %v, %v", ok, err)
		}
		if !requested(0x41) || requested(0x42) {
			t.Error("vector 0x41 is not pending, or 0x42 is")
		}
		if err := g.VM.SetGSIRouting([]kvm.IRQRoute{
			{GSI: 7, Type: kvm.IRQRouteMSI, MSI: to(0x42)},
			{GSI: 8, Type: kvm.IRQRouteChip, Chip: kvm.ChipPICMaster, Pin: 6},
		}); err != nil {
			t.Fatal(err)
		}
		fd := eventfd(t)
		if err := g.VM.IRQFD(kvm.IRQFD{FD: fd, GSI: 7}); err != nil {
			t.Fatal(err)
		}
		signal(t, fd)
		eventually(t, "vector 0x42 is pending after its irqfd", func() bool { return requested(0x42) })
		if err := g.VM.IRQLine(8, true); err != nil {
			t.Fatal(err)
		}
		if pending()&(1<<6) == 0 {
			t.Error("GSI 8 did not reach pin 6")
		}
		if err := g.VM.SetGSIRouting([]kvm.IRQRoute{{GSI: 1}}); err == nil {
			t.Error("a route without a type was taken")
		}
	})
	t.Run("pit", func(t *testing.T) {
		if err := g.VM.CreatePIT2(0); err != nil {
			t.Fatal(err)
		}
		p, err := g.VM.GetPIT2()
		if err != nil {
			t.Fatal(err)
		}
		p.Channels[2].Mode, p.Channels[2].Count = 3, 0x1234
		if err := g.VM.SetPIT2(&p); err != nil {
			t.Fatal(err)
		}
		if p, err = g.VM.GetPIT2(); err != nil || p.Channels[2].Count != 0x1234 {
			t.Errorf("count %#x, %v", p.Channels[2].Count, err)
		}
	})
	t.Run("clock", func(t *testing.T) {
		testkvm.NeedCap(t, g.VM, kvm.CapAdjustClock)
		const later = 1 << 50
		if err := g.VM.SetClock(&kvm.Clock{Clock: later}); err != nil {
			t.Fatal(err)
		}
		if c, err := g.VM.GetClock(); err != nil || c.Clock < later || c.Clock > later+1<<40 {
			t.Errorf("%d ns, %v", c.Clock, err)
		}
	})
	t.Run("save and restore", func(t *testing.T) {
		c, err := g.VM.GetIRQChip(kvm.ChipIOAPIC)
		if err != nil {
			t.Fatal(err)
		}
		if err := g.VM.SetIRQChip(c); err != nil {
			t.Fatal(err)
		}
		again, err := g.VM.GetIRQChip(kvm.ChipIOAPIC)
		same(t, c, again, err)
	})
}

func same[T any](t *testing.T, want, got T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("read back (-want +got):\n%s", d)
	}
}
