package vmm_test

import (
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"warder/internal/testguest"
	"warder/vmm"
)

// TestWatchdogActs has a guest of a few instructions run into its watchdog.
func TestWatchdogActs(t *testing.T) {
	for action, want := range map[vmm.WatchdogAction]vmm.Reason{
		vmm.WatchdogLog: vmm.Killed, vmm.WatchdogPause: vmm.Killed, // by the test
		vmm.WatchdogReset: vmm.Reset, vmm.WatchdogKill: vmm.Hung,
	} {
		t.Run(string(action), func(t *testing.T) {
			m := rawMachine(t, codeWatchdog, vmm.Config{Watchdog: action})
			if err := m.Start(); err != nil {
				t.Fatal(err)
			}
			deadline := time.Now().Add(patience)
			for m.Stats().WatchdogExpiries == 0 {
				if time.Now().After(deadline) {
					t.Fatal("it did not expire")
				}
				time.Sleep(time.Millisecond)
			}
			if want == vmm.Killed {
				m.Kill()
			}
			if e := m.Wait(); e.Reason != want || (e.Err == nil) != (want == vmm.Killed) {
				t.Errorf("ended by %v", e)
			}
			if n := m.Stats().WatchdogExpiries; n != 1 {
				t.Errorf("%d expiries", n)
			}
		})
	}
}

// petsWatchdog opens the watchdog, sets it back for longer than it waits, and
// then says so and stops.
var petsWatchdog = testguest.Register("pets-watchdog", func(g *testguest.Guest) {
	dog, err := os.OpenFile("/dev/watchdog", os.O_WRONLY, 0)
	g.Check(err)
	const timeout = 12 // seconds: a lab can stand still for some
	g.Check(unix.IoctlSetPointerInt(int(dog.Fd()), unix.WDIOC_SETTIMEOUT, timeout))
	for range timeout + 3 {
		_, err := dog.WriteString("1")
		g.Check(err)
		time.Sleep(time.Second)
	}
	g.Report("stops", nil)
	time.Sleep(time.Hour)
})

// TestWatchdogKills and TestWatchdogPauses wait for most of their time.
func TestWatchdogKills(t *testing.T) {
	t.Parallel()
	r := petsWatchdog.Start(t, vmm.Config{Watchdog: vmm.WatchdogKill})
	r.Event("stops")
	if n := r.Stats().WatchdogExpiries; n != 0 {
		t.Errorf("%d expiries while the guest set it back", n)
	}
	if e := r.End(); e.Reason != vmm.Hung || e.Err == nil {
		t.Errorf("ended by %v", e)
	}
	if n := r.Stats().WatchdogExpiries; n != 1 {
		t.Errorf("%d expiries", n)
	}
}

// TestWatchdogPauses has the machine stand still in place of an end, and go on by
// hand: then the time that it stood is no offence.
func TestWatchdogPauses(t *testing.T) {
	t.Parallel()
	r := petsWatchdog.Start(t, vmm.Config{Watchdog: vmm.WatchdogPause})
	r.Event("stops")
	until(t, r, "expire", func() bool { return r.Stats().WatchdogExpiries == 1 })
	if err := r.Pause(); err != nil { // it is paused, or about to be
		t.Fatal(err)
	}
	if err := r.Resume(); err != nil {
		t.Fatal(err)
	}
	if n := r.Stats().WatchdogExpiries; n != 1 {
		t.Errorf("%d expiries", n)
	}
}

func TestWatchdogActionIsChecked(t *testing.T) {
	if _, err := vmm.New(vmm.Config{Kernel: "none", Watchdog: "bark"}); err == nil {
		t.Error("an unknown action was taken")
	}
}
