package vmm

import (
	"fmt"

	"warder/kvm"
)

// Registers whose writes exit (Intel SDM volume 4; AMD APM volume 2, appendix
// A): how the kernel is entered, what paging and the CPU's debugging do. A guest
// writes them when a CPU starts, so that watching costs nothing.
const (
	msrSysenterCS  = 0x174
	msrSysenterESP = 0x175
	msrSysenterEIP = 0x176
	msrDebugCtl    = 0x1d9
	msrEFER        = 0xc000_0080
	msrSTAR        = 0xc000_0081
	msrLSTAR       = 0xc000_0082
	msrCSTAR       = 0xc000_0083
)

var watchedMSRs = map[uint32]string{
	msrSysenterCS: "SYSENTER_CS", msrSysenterESP: "SYSENTER_ESP", msrSysenterEIP: "SYSENTER_EIP", msrDebugCtl: "DEBUGCTL",
	msrEFER: "EFER", msrSTAR: "STAR", msrLSTAR: "LSTAR", msrCSTAR: "CSTAR",
}

// watchMSRs has writes of the registers exit, where the host can do it.
func (m *Machine) watchMSRs() error {
	for _, c := range []kvm.Cap{kvm.CapX86UserSpaceMSR, kvm.CapX86MSRFilter} {
		if ok, err := m.vm.Check(c); err != nil || ok == 0 {
			m.log.Info("this host does not report writes of privileged registers", "capability", c)
			return nil
		}
	}
	if err := m.vm.EnableCap(kvm.CapX86UserSpaceMSR, 0, kvm.X86UserSpaceMSRFilter); err != nil {
		return fmt.Errorf("exits at registers: %w", err)
	}
	// A clear bit is a write that exits.
	deny := func(base, count uint32) kvm.MSRRange {
		return kvm.MSRRange{Flags: kvm.MSRFilterWrite, Base: base, Count: count, Bitmap: make([]byte, (count+7)/8)}
	}
	err := m.vm.SetMSRFilter(kvm.MSRFilter{Ranges: []kvm.MSRRange{
		deny(msrSysenterCS, 3), deny(msrDebugCtl, 1), deny(msrEFER, 4),
	}})
	if err != nil {
		return fmt.Errorf("filter of registers: %w", err)
	}
	return nil
}

// writeMSR does for the guest what it asked for, and tells of it.
func (v *VCPU) writeMSR(w kvm.MSR) error {
	e := []kvm.MSREntry{{Index: w.Index}}
	if _, err := v.fd.GetMSRs(e); err != nil {
		return err
	}
	a := Act{Kind: RegisterWrite, Name: watchedMSRs[w.Index], Old: e[0].Data, Value: w.Data}
	if a.Refused = w.Index == msrEFER && !v.mayWriteEFER(a.Old, w.Data); !a.Refused {
		e[0].Data = w.Data
		// KVM refuses what the CPU would, such as an address that is none.
		a.Refused = v.fd.SetMSRs(e) != nil
	}
	v.fd.SetMSRResult(0, a.Refused)
	v.act(a)
	return nil
}

// Bits of EFER (AMD APM volume 2, section 3.1.7).
const (
	eferSCE   = 1 << 0
	eferLME   = 1 << 8
	eferLMA   = 1 << 10
	eferNXE   = 1 << 11
	eferLMSLE = 1 << 13
	eferFFXSR = 1 << 14

	cr0Paging = 1 << 31
)

// haltCounters are KVM's counters of a vCPU's waits.
var haltCounters = []string{"halt_exits"}

// mayWriteEFER says what KVM checks of a guest's write and not of ours: reserved
// bits, and that long mode is not switched while paging is on.
func (v *VCPU) mayWriteEFER(old, value uint64) bool {
	if value&^(eferSCE|eferLME|eferLMA|eferNXE|eferLMSLE|eferFFXSR) != 0 {
		return false
	}
	s, err := v.sregs()
	return err == nil && (s.CR0&cr0Paging == 0 || old&eferLME == value&eferLME)
}

// callByStore has nothing to do: every x86 host has ports.
func (v *VCPU) callByStore(kvm.MMIO) bool { return false }

// callWarder answers a write to the hypercall port: the number in RAX, arguments in
// RDI, RSI, RDX and RCX, the result in RAX.
func (v *VCPU) callWarder() {
	r := v.regs()
	r.RAX = v.hypercall(r.RAX, [4]uint64{r.RDI, r.RSI, r.RDX, r.RCX})
	v.setRegs()
}
