package vmm_test

import (
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"warder/vmm"
)

// TestActs has a guest do everything that is told of, and use the result of a
// hypercall: without it, it does not power off.
func TestActs(t *testing.T) {
	m := raw(t, codeActs)
	var acts []vmm.Act
	m.OnAct(func(_ *vmm.VCPU, a vmm.Act) uint64 {
		acts = append(acts, a)
		return a.Args[0] + 1
	})
	if e := ended(t, m); e.Reason != vmm.PowerOff {
		t.Errorf("ended by %v\n%v", e, e.Report)
	}
	if d := cmp.Diff(wantActs(t), acts); d != "" {
		t.Errorf("acts (-want +got):\n%s", d)
	}
}

// TestActsUnwatched has the same guest do it with nobody there: a hypercall then
// gives that it is not supported.
func TestActsUnwatched(t *testing.T) {
	if e := ended(t, raw(t, codeActs)); e.Reason != vmm.Reset {
		t.Errorf("ended by %v\n%v", e, e.Report)
	}
}

func TestCrashIsAnAct(t *testing.T) {
	m := raw(t, codeCrash)
	var acts []vmm.Act
	m.OnAct(func(_ *vmm.VCPU, a vmm.Act) uint64 { acts = append(acts, a); return 0 })
	e := ended(t, m)
	if i := slices.IndexFunc(acts, func(a vmm.Act) bool { return a.Kind == vmm.Crash }); i < 0 || acts[i].Message != e.Err.Error() {
		t.Errorf("acts %+v, ended by %v", acts, e)
	}
}
