package trap_test

import (
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"warder/internal/testguest"
	"warder/internal/testkvm"
	"warder/secmon/event"
	"warder/secmon/trap"
	"warder/vmm"
)

var busy = testguest.Register("busy", func(g *testguest.Guest) {
	g.Check(os.MkdirAll("/mnt/share", 0o755))
	g.Check(unix.Mount("files", "/mnt/share", "virtiofs", 0, ""))
	null, err := unix.Open("/dev/null", unix.O_WRONLY, 0)
	g.Check(err)
	var stop atomic.Bool
	var writes, wrong atomic.Int64
	var all sync.WaitGroup
	for range runtime.NumCPU() {
		all.Go(func() {
			runtime.LockOSThread()
			for !stop.Load() {
				n, err := unix.Write(null, []byte("busy"))
				writes.Add(1)
				if n != 4 || err != nil {
					wrong.Add(1)
				}
			}
		})
	}
	pause(g, "busy")
	stop.Store(true)
	all.Wait()
	g.Report("writes", [2]int64{writes.Load(), wrong.Load()})
})

// TestArmingUnderLoad puts hooks on and takes them off while every vCPU runs
// into them. The guest must not notice, and no hit may come from a hook that
// has been taken off.
func TestArmingUnderLoad(t *testing.T) {
	testkvm.Need(t)
	rounds, hits := 30, 20
	if soak {
		rounds = 1000
	}
	dir := t.TempDir()
	k := kernel(t)
	r := busy.Start(t, vmm.Config{CPUs: min(2, runtime.NumCPU()), Shares: []vmm.Share{{Tag: "files", Dir: dir}}})
	r.Event("busy")
	var armed atomic.Bool
	var late atomic.Int64
	hit := make(chan struct{}, hits)
	sink := func(e event.Event) unix.Errno {
		if !armed.Load() {
			late.Add(1)
		}
		select {
		case hit <- struct{}{}:
		default:
		}
		return 0
	}
	strays, seen := uint64(0), uint64(0)
	var returned atomic.Uint64
	for range rounds {
		armed.Store(true)
		tr, err := trap.Arm(t.Context(), trap.Of(r.Machine), trap.Config{VM: "vm", Kernel: k, Calls: []string{"write"}, Sink: sink, Result: func(e event.Event) {
			if e.Call.Result != 4 {
				t.Errorf("a write of 4 bytes gave %d", e.Call.Result)
			}
			returned.Add(1)
		}})
		if err != nil {
			t.Fatal(err)
		}
		for range hits {
			select {
			case <-hit:
			case <-time.After(time.Minute):
				t.Fatal("the hooks are on, and nothing runs into them")
			}
		}
		if err := tr.Disarm(t.Context()); err != nil {
			t.Fatal(err)
		}
		armed.Store(false)
		s := tr.Stats()
		strays, seen = strays+s.Strays, seen+s.Hits
		if s.Unfollowed != 0 {
			t.Errorf("stats %+v", s)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "busy"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	counts := testguest.Get[[2]int64](r, "writes")
	r.Finish()
	if counts[0] < int64(rounds*hits) || uint64(counts[0]) < seen || counts[1] != 0 {
		t.Errorf("%d writes, %d of them wrong", counts[0], counts[1])
	}
	// Those that were under way when the hooks went came back when nobody wanted to
	// know: at most one a thread and round.
	if back := returned.Load(); back > seen || back+uint64(rounds*2*runtime.NumCPU()) < seen {
		t.Errorf("%d calls seen, %d of them with a result", seen, back)
	}
	if late.Load() != 0 || strays != 0 {
		t.Errorf("%d hits after the hooks were off, %d at no hook of ours", late.Load(), strays)
	}
}
