package vmm_test

import (
	"testing"

	"warder/vmm"
)

// TestSpecialRegistersAtAHook holds what a hook is shown of the special registers
// against KVM: before and after they are written from outside, and when nobody has
// hooks any more.
func TestSpecialRegistersAtAHook(t *testing.T) {
	m := raw(t, codeTrap)
	same := func(v *vmm.VCPU, when string) {
		t.Helper()
		if same, err := v.SregsByKVM(); !same || err != nil {
			t.Errorf("%s they are not KVM's, or %v", when, err)
		}
	}
	hit := false
	err := m.SetTrap(func(v *vmm.VCPU) vmm.TrapAction {
		hit = true
		same(v, "at the hook")
		if !v.SregsKept() {
			t.Error("each question at a hook is a system call")
		}
		if err := writeRegister(v, "fs_base", 0x5000); err != nil {
			t.Errorf("write fs_base: %v", err)
		}
		if got, err := v.Register("fsbase"); got != 0x5000 || err != nil {
			t.Errorf("FS base %#x, %v after it was written", got, err)
		}
		same(v, "when one was written")
		return vmm.Pass
	})
	if err != nil {
		t.Fatal(err)
	}
	same(m.VCPU(0), "before the start")
	if e := ended(t, m); e.Reason != vmm.PowerOff || !hit {
		t.Errorf("ended by %v, hit %v", e, hit)
	}
	m = raw(t, codeSpin)
	if err := m.SetTrap(func(*vmm.VCPU) vmm.TrapAction { return vmm.Pass }); err != nil {
		t.Fatal(err)
	}
	if err := m.SetTrap(nil); err != nil {
		t.Fatal(err)
	}
	if m.VCPU(0).SregsKept() {
		t.Error("every exit gives them, and there are no hooks")
	}
}
