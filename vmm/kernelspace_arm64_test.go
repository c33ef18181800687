package vmm_test

import (
	"encoding/binary"
	"testing"

	"warder/vmm"
	"warder/vmm/pagetable"
)

// setSystemRegister sets a register of a vCPU by its name.
func setSystemRegister(t *testing.T, v *vmm.VCPU, name string, value uint64) {
	t.Helper()
	n := 0
	for _, set := range vmm.RegisterSets() {
		for _, r := range set.Registers {
			if r.Name == name {
				if err := v.WriteRegister(n, binary.LittleEndian.AppendUint64(nil, value)); err != nil {
					t.Error(err)
				}
				return
			}
			n++
		}
	}
	t.Errorf("no register %s", name)
}

// TestKernelSpace changes the registers of a vCPU that stands at a hook: its kernel's
// half is read again in time, and from a change on each time.
func TestKernelSpace(t *testing.T) {
	const hits, user, one, two = 32, 0x4010_0000, 0x4020_0000, 0x4030_0000
	m := raw(t, codeTrap)
	err := m.SetTrap(func(v *vmm.VCPU) vmm.TrapAction {
		const tcr = 25 | 25<<16 | 0b10<<30
		off, err := v.Register("sctlr")
		if err != nil {
			t.Error(err)
		}
		setSystemRegister(t, v, "tcr_el1", tcr)
		setSystemRegister(t, v, "ttbr0_el1", user)
		setSystemRegister(t, v, "ttbr1_el1", one)
		setSystemRegister(t, v, "sctlr_el1", off|1)
		defer setSystemRegister(t, v, "sctlr_el1", off)

		registers := func(ttbr0, ttbr1 uint64) pagetable.ARM64 {
			return pagetable.ARM64{SCTLR: off | 1, TTBR0: ttbr0, TTBR1: ttbr1, TCR: tcr}
		}
		want := func(what string, sure bool, ttbr1 uint64) {
			t.Helper()
			got, err := v.KernelSpace(sure)
			if err != nil || got != registers(0, ttbr1).KernelSpace() {
				t.Errorf("%s: %+v, %v", what, got, err)
			}
		}
		want("the first time", false, one)
		setSystemRegister(t, v, "ttbr1_el1", one|7<<48) // another ASID
		for range 2 * hits {
			want("the same tables", false, one)
		}
		want("for sure", true, one)
		setSystemRegister(t, v, "ttbr1_el1", two)
		for range hits - 1 {
			want("as it was", false, one)
		}
		want("read again", false, two)
		setSystemRegister(t, v, "ttbr1_el1", one)
		want("each time", false, one)

		for _, ttbr0 := range []uint64{user, user + 0x1000} {
			setSystemRegister(t, v, "ttbr0_el1", ttbr0)
			if got, err := v.WholeSpace(); err != nil || got != registers(ttbr0, one).Space() {
				t.Errorf("the whole space: %+v, %v", got, err)
			}
			if got, err := v.AddressSpace(); err != nil || got != registers(ttbr0, one).Space() {
				t.Errorf("the address space: %+v, %v", got, err)
			}
		}
		return vmm.Pass
	})
	if err != nil {
		t.Fatal(err)
	}
	if e := ended(t, m); e.Reason != vmm.PowerOff {
		t.Errorf("ended by %v\n%v", e, e.Report)
	}
}
