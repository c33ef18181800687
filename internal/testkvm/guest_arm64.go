package testkvm

import (
	"testing"

	"warder/kvm"
)

// Base is the guest-physical address of a Guest's memory.
const Base = 0x40000000

func (g *Guest) reset(t testing.TB) {
	t.Helper()
	target, err := g.VM.PreferredTarget()
	if err != nil {
		t.Fatal(err)
	}
	target.Set(kvm.FeaturePSCI02)
	if err := g.CPU.Init(target); err != nil {
		t.Fatal(err)
	}
	g.SetReg(t, kvm.RegPC, Base)
	g.SetReg(t, kvm.RegSPEL1, Base+Size)
}

// SetReg sets one register.
func (g *Guest) SetReg(t testing.TB, r kvm.Reg, v uint64) {
	t.Helper()
	if err := g.CPU.SetOneReg(r, v); err != nil {
		t.Fatal(err)
	}
}

// Reg is the value of one register.
func (g *Guest) Reg(t testing.TB, r kvm.Reg) uint64 {
	t.Helper()
	v, err := g.CPU.GetOneReg(r)
	if err != nil {
		t.Fatal(err)
	}
	return v
}
