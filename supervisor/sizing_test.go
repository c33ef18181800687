package supervisor

import (
	"runtime"
	"strings"
	"testing"
	"time"

	"warder/guestinit/control"
	"warder/guestinit/proto"
	"warder/internal/testkvm"
	"warder/vmm"
)

// work keeps two CPUs busy. The head of the guest takes no suffixes.
const work = "head -c 4194304 /dev/zero | shasum >/dev/null & head -c 4194304 /dev/zero | shasum >/dev/null; wait"

// TestSizing changes what a VM has while it runs.
func TestSizing(t *testing.T) {
	testkvm.Need(t)
	const ram, most = 192 << 20, 320 << 20
	cpus := min(2, runtime.NumCPU())
	vm := start(t, Spec{Name: "sized", CPUs: cpus, BootCPUs: 1, Memory: ram, MemoryMax: most})

	before, err := vm.Info(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := vm.Machine().SetMemory(most); err != nil {
		t.Fatal(err)
	}
	for vm.Machine().MemoryStats().Hotplug.Plugged != most-ram {
		select {
		case <-time.After(20 * time.Millisecond):
		case <-vm.Done():
			t.Fatal(vm.Ended())
		}
	}
	// What is plugged is on line a little later; the test's own time limit ends this.
	for total := uint64(0); total < before.MemoryTotal+(most-ram)*3/4; {
		info, err := vm.Info(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		total = info.MemoryTotal
	}
	if stats, err := vm.Machine().GuestMemory(t.Context()); err != nil || stats.Total == 0 {
		t.Errorf("the balloon's statistics: %+v, %v", stats, err)
	}

	if _, err := vm.SetCPUs(t.Context(), 0); err == nil || !strings.Contains(err.Error(), "this guest has") {
		t.Errorf("no CPUs: %v", err)
	}
	if _, err := vm.SetCPUs(t.Context(), cpus+1); err == nil {
		t.Error("more CPUs than there are")
	}
	// share is what the last vCPU takes of the first's time while the guest works.
	share := func() float64 {
		before := vm.Machine().CPUTime()
		output(t, vm, work)
		after := vm.Machine().CPUTime()
		return float64(after[cpus-1]-before[cpus-1]) / float64(after[0]-before[0])
	}
	for _, online := range []int{1, cpus, 1} {
		got, err := vm.SetCPUs(t.Context(), online)
		if err != nil || got != (proto.CPUs{Present: cpus, Online: online}) {
			t.Fatalf("%d CPUs on line: %+v, %v", online, got, err)
		}
		s := share()
		t.Logf("with %d of %d CPUs on line the last takes %.3f of the first's time", online, cpus, s)
		if online < cpus && s > 0.05 {
			t.Errorf("a CPU that is off line takes %.3f of the first's time", s)
		}
		if online > 1 && s < 0.2 {
			t.Errorf("a CPU that is on line takes %.3f of the first's time", s)
		}
	}
}

// TestWatchdogEndsAHungGuest has a kernel panic and stand still.
func TestWatchdogEndsAHungGuest(t *testing.T) {
	testkvm.Need(t)
	vm := start(t, Spec{Name: "hung", Memory: 192 << 20, Cmdline: "panic=0", Watchdog: vmm.WatchdogKill, WatchdogTimeout: 12 * time.Second})
	// Longer than the timeout, with a guest that is well.
	output(t, vm, "sleep 15")
	_, err := vm.Run(t.Context(), proto.Command{Args: []string{"sh", "-c", "echo c >/proc/sysrq-trigger"}}, control.Stdio{})
	if e := vm.Machine().Wait(); e.Reason != vmm.Hung {
		t.Errorf("ended by %v", e)
	}
	if err == nil || !strings.Contains(err.Error(), "watchdog") && !strings.Contains(err.Error(), "panicked") {
		t.Errorf("error %v", err)
	}
}
