package vmm

import (
	"fmt"

	"warder/kvm"
)

// haltCounters are KVM's counters of a vCPU's waits.
var haltCounters = []string{"wfi_exit_stat", "wfe_exit_stat"}

// The function ids of warder's hypercalls: fast 64-bit calls in the range of a
// hypervisor's vendor (SMC Calling Convention, Arm DEN 0028, section 6).
const (
	hypercallID    = 0xc600_5700
	hypercallCount = 0x100
)

// forwarded are the ranges of SMCs and HVCs that come to us. What is not in them KVM
// answers: the architecture's own (0x8000_0000, 0xc000_0000), PSCI and the source
// of entropy (0x8400_0000), stolen time (0xc500_0020), its own (0x8600_0000).
var forwarded = []struct{ base, count uint32 }{
	{0x0000_0000, 0x8000_0000}, // trusted operating systems, yielding calls
	{0x8100_0000, 0x0300_0000}, // CPU, SoC and OEM services
	{0xb000_0000, 0x1000_0000}, // trusted applications and operating systems
	{0xc100_0000, 0x0300_0000},
	{hypercallID, hypercallCount},
	{0xf000_0000, 0x0fff_ffff},
}

// watchCalls has firmware calls that KVM does not answer come to us, where the
// host can do it.
func (m *Machine) watchCalls() error {
	if !m.vm.HasSMCCCFilter() {
		m.log.Info("this host does not report firmware calls: Linux 6.4 does")
		return nil
	}
	for _, r := range forwarded {
		f := kvm.SMCCCFilter{Base: r.base, Count: r.count, Action: kvm.SMCCCForwardToUser}
		if err := m.vm.SetSMCCCFilter(f); err != nil {
			return fmt.Errorf("filter of firmware calls %#x+%#x: %w", r.base, r.count, err)
		}
	}
	return nil
}

// firmwareCall answers an SMC or HVC (SMCCC, section 5.2: results are in X0 to X3).
func (v *VCPU) firmwareCall(h kvm.Hypercall) error {
	if nr := h.Nr - hypercallID; nr < hypercallCount && h.Flags&kvm.HypercallSMC == 0 {
		return v.callWarder(nr)
	}
	a := Act{Kind: FirmwareCall, Name: "hvc", Value: h.Nr}
	if h.Flags&kvm.HypercallSMC != 0 {
		a.Name = "smc"
	}
	if v.watched() {
		args, err := v.callArgs()
		if err != nil {
			return err
		}
		a.Args = args
		v.act(a)
	}
	return v.fd.SetOneReg(kvm.RegX(0), NotSupported)
}

// callWarder answers a hypercall: arguments in X1 to X4, the result in X0.
func (v *VCPU) callWarder(nr uint64) error {
	args, err := v.callArgs()
	if err != nil {
		return err
	}
	return v.fd.SetOneReg(kvm.RegX(0), v.hypercall(nr, args))
}

func (v *VCPU) callArgs() (args [4]uint64, err error) {
	for i := range args {
		if args[i], err = v.fd.GetOneReg(kvm.RegX(1 + i)); err != nil {
			return args, err
		}
	}
	return args, nil
}

// callByStore answers a store of a hypercall's number, which is for hosts that
// cannot forward HVCs. It says whether the access was one.
func (v *VCPU) callByStore(a kvm.MMIO) bool {
	if !a.IsWrite || a.Addr != hypercallBase || a.Len != 4 {
		return false
	}
	if err := v.callWarder(littleEndian(a.Data)); err != nil {
		v.m.log.Error("hypercall", "vcpu", v.id, "err", err)
	}
	return true
}
