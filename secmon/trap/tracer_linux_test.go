package trap_test

import (
	"os"
	"path/filepath"
	"runtime"
	"strings"
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

const (
	tracing = "/sys/kernel/tracing/"
	// probed is opened so many times in each state of the guest's own tracers.
	probed    = "/tmp/probed"
	probes    = 10
	handlerOf = "__" + archPrefix + "_sys_openat"
)

// traced is what a guest saw by its own tracers of its own calls.
type traced struct {
	Function, Kprobe int    // lines of the trace
	Kernel           string // what the kernel complained of
}

var tracer = testguest.Register("tracer", func(g *testguest.Guest) {
	runtime.LockOSThread()
	g.Check(os.MkdirAll("/mnt/share", 0o755))
	g.Check(unix.Mount("files", "/mnt/share", "virtiofs", 0, ""))
	g.Check(unix.Mount("tracefs", tracing, "tracefs", 0, ""))
	set := func(file, value string) { g.Check(os.WriteFile(tracing+file, []byte(value), 0o644)) }
	probe := func() (lines int) {
		set("trace", "")
		for range probes {
			fd, err := unix.Open(probed, unix.O_RDONLY|unix.O_CREAT, 0o600)
			g.Check(err)
			g.Check(unix.Close(fd))
		}
		text, err := os.ReadFile(tracing + "trace")
		g.Check(err)
		for line := range strings.Lines(string(text)) {
			if strings.Contains(line, handlerOf) && !strings.HasPrefix(line, "#") {
				lines++
			}
		}
		// The trace is opened too, once.
		return max(lines-1, 0)
	}
	pause(g, "armed")
	var seen traced
	probe()
	set("set_ftrace_filter", handlerOf)
	set("current_tracer", "function")
	seen.Function = probe()
	set("current_tracer", "nop")
	set("set_ftrace_filter", "")
	probe()
	set("kprobe_events", "p:probe "+handlerOf)
	set("events/kprobes/probe/enable", "1")
	seen.Kprobe = probe()
	set("events/kprobes/probe/enable", "0")
	set("kprobe_events", "")
	probe()
	buf := make([]byte, 1<<16)
	n, err := unix.Klogctl(unix.SYSLOG_ACTION_READ_ALL, buf)
	g.Check(err)
	for line := range strings.Lines(string(buf[:n])) {
		if strings.Contains(line, "WARNING: CPU") || strings.Contains(line, "ftrace") && strings.Contains(line, "fail") || strings.Contains(line, "Oops") {
			seen.Kernel += line
		}
	}
	g.Report("seen", seen)
	pause(g, "held")
	start := time.Now()
	fd, err := unix.Open("/tmp/delayed", unix.O_RDONLY|unix.O_CREAT, 0o600)
	g.Check(err)
	g.Check(unix.Close(fd))
	took := time.Since(start)
	_, err = unix.Open("/tmp/refused", unix.O_RDONLY|unix.O_CREAT, 0o600)
	g.Report("holds", [2]string{result(err), took.String()})
	pause(g, "done")
})

// TestGuestTracesItself has a guest trace and probe a function that is hooked: it
// sees its calls, and so do we, all of them. Then calls are held.
func TestGuestTracesItself(t *testing.T) {
	testkvm.Need(t)
	const delay = 300 * time.Millisecond
	dir := t.TempDir()
	k := kernel(t)
	r := tracer.Start(t, vmm.Config{CPUs: min(2, runtime.NumCPU()), Shares: []vmm.Share{{Tag: "files", Dir: dir}}})
	testguest.Get[uint32](r, "armed")
	rec, back := &recorder{}, &recorder{}
	var aside atomic.Int32
	tr, err := trap.Arm(t.Context(), trap.Of(r.Machine), trap.Config{
		VM: "vm", Kernel: k, Calls: []string{"openat", "write"}, Sink: rec.sink,
		Result: func(e event.Event) { back.sink(e) },
		Notice: func(m string) {
			if !strings.Contains(m, "until it is done") {
				t.Error(m)
			}
			aside.Add(1)
		},
		Hold: func(e event.Event) *trap.Hold {
			switch e.Call.Path {
			case "/tmp/delayed":
				return trap.Delay(delay)
			case "/tmp/refused":
				h := trap.NewHold()
				go func() {
					// While the vCPU stands still, others can be asked and stopped.
					if err := r.WithVCPUsStopped(func() error { return nil }); err != nil {
						t.Error(err)
					}
					h.Release(unix.EACCES)
				}()
				return h
			}
			return nil
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	touch := func(name string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	touch("armed")
	seen := testguest.Get[traced](r, "seen")
	if seen.Function != probes || seen.Kprobe != probes || seen.Kernel != "" {
		t.Errorf("the guest saw %d calls by its function tracer and %d by its probe, want %d; its kernel says %q", seen.Function, seen.Kprobe, probes, seen.Kernel)
	}
	opened := func(events []event.Event) (n int) {
		for _, e := range events {
			if e.Call.Name == "openat" && e.Call.Path == probed {
				n++
			}
		}
		return n
	}
	testguest.Get[uint32](r, "held")
	if n, m := opened(rec.all()), opened(back.all()); n != 5*probes || m != n {
		t.Errorf("%d calls seen, %d with their results, of %d", n, m, 5*probes)
	}
	if aside.Load() < 2 { // arm64 has its probes without the tracer
		t.Errorf("stepped aside %d times", aside.Load())
	}
	touch("held")
	holds := testguest.Get[[2]string](r, "holds")
	if took, err := time.ParseDuration(holds[1]); err != nil || took < delay || holds[0] != "EACCES" {
		t.Errorf("delayed for %s, held and refused with %q", holds[1], holds[0])
	}
	if err := tr.Disarm(t.Context()); err != nil {
		t.Fatal(err)
	}
	touch("done")
	r.Finish()
}

// TestArmedFromTheStart arms a machine that has just been started: the first call of
// its first process is seen.
func TestArmedFromTheStart(t *testing.T) {
	testkvm.Need(t)
	dir := t.TempDir()
	k := kernel(t)
	r := acts.Start(t, vmm.Config{Shares: []vmm.Share{{Tag: "files", Dir: dir}}})
	first := make(chan event.Event, 1)
	tr, err := trap.Arm(t.Context(), trap.Of(r.Machine), trap.Config{
		VM: "vm", Kernel: k, Calls: []string{"openat"},
		Sink: func(e event.Event) unix.Errno {
			select {
			case first <- e:
			default:
			}
			return 0
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	testguest.Get[uint32](r, "armed")
	// It is what Go's runtime opens before anything else, whose name it may not have
	// touched yet.
	e := <-first
	known := strings.HasPrefix(e.Call.Path, "/sys/kernel/mm/transparent_hugepage/") || e.Call.Missing&event.MissingPath != 0
	if e.Process.PID != 1 || e.Seq != 1 || !known {
		t.Errorf("the first call seen is of %+v: %s", e.Process, e.Call.Path)
	}
	if err := tr.Disarm(t.Context()); err != nil {
		t.Fatal(err)
	}
	r.Kill()
}
