package vmm_test

import (
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"warder/internal/testguest"
	"warder/internal/testkvm"
	"warder/vmm"
)

// TestStormsLeaveOthersAlone has guests leave as fast as they can, by what is told
// of and by what runs into the trap function: each still does what it is asked to, and
// other guests run.
func TestStormsLeaveOthersAlone(t *testing.T) {
	var acts, traps atomic.Uint64
	var storms []*vmm.Machine
	for _, code := range [][]byte{codeStrayStorm, codeTrapStorm} {
		m := raw(t, code)
		m.OnAct(func(*vmm.VCPU, vmm.Act) uint64 { acts.Add(1); return 0 })
		if err := m.SetTrap(func(*vmm.VCPU) vmm.TrapAction { traps.Add(1); return vmm.Return(0) }); err != nil {
			t.Fatal(err)
		}
		if err := m.Start(); err != nil {
			t.Fatal(err)
		}
		storms = append(storms, m)
	}
	const enough = 1000
	for end := time.Now().Add(2 * time.Minute); acts.Load() < enough || traps.Load() < enough; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%d accesses and %d hits so far", acts.Load(), traps.Load())
		}
	}
	for range 3 {
		if e := ended(t, raw(t, codePowerOff)); e.Reason != vmm.PowerOff {
			t.Errorf("a guest beside them ended by %v", e)
		}
	}
	for _, m := range storms {
		if err := m.Pause(); err != nil {
			t.Fatal(err)
		}
		a, h := acts.Load(), traps.Load()
		if err := m.Resume(); err != nil {
			t.Fatal(err)
		}
		for end := time.Now().Add(2 * time.Minute); acts.Load() == a && traps.Load() == h; time.Sleep(time.Millisecond) {
			if time.Now().After(end) {
				t.Fatal("a guest does not go on after a pause")
			}
		}
		m.Kill()
		if e := m.Wait(); e.Reason != vmm.Killed {
			t.Errorf("ended by %v", e)
		}
	}
}

const naps = 50

var sleeper = testguest.Register("sleeper", func(g *testguest.Guest) {
	g.Report("up", nil)
	for range naps {
		g.Check(unix.Nanosleep(&unix.Timespec{Nsec: 20e6}, nil))
	}
	g.Report("slept", nil)
})

// TestHaltsAreCounted has a guest sleep, which its only CPU has no work beside.
func TestHaltsAreCounted(t *testing.T) {
	r := sleeper.Start(t, vmm.Config{})
	r.Event("up")
	before, err := r.Halts()
	if errors.Is(err, errors.ErrUnsupported) {
		testkvm.Missing(t, "counting halts: Linux 5.14 has it")
	}
	r.Event("slept")
	after, err2 := r.Halts()
	// A sleep that the host was slow to begin may be over before the CPU is idle.
	if err != nil || err2 != nil || after < before+naps/5 {
		t.Errorf("%d halts, then %d; %v, %v", before, after, err, err2)
	}
	r.Finish()
}
