package trap_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"warder/internal/testguest"
	"warder/internal/testkvm"
	"warder/secmon/event"
	"warder/secmon/syscalls"
	"warder/secmon/trap"
	"warder/vmm"
)

// One call of a thread, as a tracer inside the guest sees it.
type tracedCall struct {
	Number uint64
	Args   [6]uint64
	Result int64
	Ended  bool // it has returned
}

// traces are the calls of a child by thread.
type traces struct {
	Child int
	Calls map[int][]tracedCall
}

// mirror runs a program under ptrace, which is how strace sees calls, and writes
// down what it sees.
var mirror = testguest.Register("mirror", func(g *testguest.Guest) {
	runtime.LockOSThread()
	g.Check(os.MkdirAll("/mnt/share", 0o755))
	g.Check(unix.Mount("files", "/mnt/share", "virtiofs", 0, ""))
	pause(g, "armed")
	child, err := os.StartProcess("/init", []string{"/init", "-test.run=^$"}, &os.ProcAttr{
		Files: []*os.File{nil, nil, nil}, Env: []string{"GOMAXPROCS=2"}, Sys: &unix.SysProcAttr{Ptrace: true},
	})
	g.Check(err)
	seen := traces{Child: child.Pid, Calls: map[int][]tracedCall{}}
	var status unix.WaitStatus
	_, err = unix.Wait4(child.Pid, &status, 0, nil)
	g.Check(err)
	g.Check(unix.PtraceSetOptions(child.Pid, unix.PTRACE_O_TRACESYSGOOD|unix.PTRACE_O_TRACECLONE|unix.PTRACE_O_EXITKILL))
	g.Check(unix.PtraceSyscall(child.Pid, 0))
	for {
		tid, err := unix.Wait4(-1, &status, unix.WALL, nil)
		if err == unix.EINTR {
			continue
		}
		g.Check(err)
		if status.Exited() || status.Signaled() {
			if tid == child.Pid {
				break
			}
			continue
		}
		signal := 0
		switch stop := status.StopSignal(); {
		case stop == unix.SIGTRAP|0x80:
			seen.stopped(g, tid)
		case stop != unix.SIGTRAP && stop != unix.SIGSTOP:
			signal = int(stop)
		}
		if err := unix.PtraceSyscall(tid, signal); err != nil && err != unix.ESRCH {
			g.Fatal(err)
		}
	}
	text, err := json.Marshal(seen)
	g.Check(err)
	g.Check(os.WriteFile("/mnt/share/traces", text, 0o644))
	g.Report("exit", status.ExitStatus())
	pause(g, "done")
})

// stopped notes a thread's call that begins or ends: struct ptrace_syscall_info.
func (s *traces) stopped(g *testguest.Guest, tid int) {
	const entry, exit = 1, 2
	info, err := syscallInfo(tid)
	if err == unix.ESRCH {
		return
	}
	g.Check(err)
	calls := s.Calls[tid]
	switch info.op {
	case entry:
		s.Calls[tid] = append(calls, tracedCall{Number: info.number, Args: info.args})
	case exit:
		if n := len(calls); n > 0 && !calls[n-1].Ended {
			calls[n-1].Ended, calls[n-1].Result = true, info.result
		}
	}
}

// TestStreamEqualsPtrace traces every system call, and holds those of one program
// against what ptrace inside the guest saw of them: the same calls of each thread, in
// the same order, with the same arguments and results.
func TestStreamEqualsPtrace(t *testing.T) {
	testkvm.Need(t)
	dir := t.TempDir()
	k := kernel(t)
	r := mirror.Start(t, vmm.Config{CPUs: min(2, runtime.NumCPU()), Shares: []vmm.Share{{Tag: "files", Dir: dir}}})
	testguest.Get[uint32](r, "armed")
	abi, _ := syscalls.ParseABI(runtime.GOARCH)
	ours := struct {
		sync.Mutex
		byThread map[uint32][]event.Event
		of       map[uint32]uint32 // thread to process
	}{byThread: map[uint32][]event.Event{}, of: map[uint32]uint32{}}
	tr, err := trap.Arm(t.Context(), trap.Of(r.Machine), trap.Config{
		VM: "vm", Kernel: k, Calls: syscalls.Names(abi),
		Sink: func(e event.Event) unix.Errno {
			ours.Lock()
			defer ours.Unlock()
			if e.Call.ABI != "" {
				ours.byThread[e.Process.TID] = append(ours.byThread[e.Process.TID], e)
				ours.of[e.Process.TID] = e.Process.PID
			}
			return 0
		},
		Result: func(e event.Event) {
			ours.Lock()
			defer ours.Unlock()
			all := ours.byThread[e.Process.TID]
			if n := len(all); n == 0 || all[n-1].Seq != e.Seq {
				t.Errorf("thread %d: %s returned, which was not its latest call", e.Process.TID, e.Call.Name)
			} else {
				all[n-1] = e
			}
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	hooked := len(tr.Functions())
	if err := os.WriteFile(filepath.Join(dir, "armed"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if status := testguest.Get[int](r, "exit"); status != 0 {
		t.Errorf("the program ended with %d", status)
	}
	if err := tr.Disarm(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "done"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	r.Finish()
	text, err := os.ReadFile(filepath.Join(dir, "traces"))
	if err != nil {
		t.Fatal(err)
	}
	var theirs traces
	if err := json.Unmarshal(text, &theirs); err != nil {
		t.Fatal(err)
	}
	ours.Lock()
	defer ours.Unlock()
	compared, threads := 0, 0
	for tid, want := range theirs.Calls {
		got := ours.byThread[uint32(tid)]
		// The tracer inside begins behind the execve.
		for len(got) > 0 && ours.of[uint32(tid)] == uint32(tid) && got[0].Call.Name != "execve" {
			got = got[1:]
		}
		if tid == theirs.Child && len(got) > 0 {
			got = got[1:]
		}
		// A thread that its process' end catches at the tracer's stop goes without
		// making the call: syscall_trace_enter gives -1.
		if n := len(want); n == len(got)+1 && !want[n-1].Ended && !ends(abi, want[n-1]) {
			want = want[:n-1]
		}
		threads++
		compared += len(want)
		if len(got) != len(want) {
			t.Errorf("thread %d made %d calls, %d were seen", tid, len(want), len(got))
		}
		for i := range min(len(got), len(want)) {
			if got[i].Call.ABI != abi.String() {
				t.Errorf("thread %d, call %d: a call by the ABI %s: %s", tid, i, got[i].Call.ABI, syscalls.Format(&got[i].Call, 32))
				break
			}
			if d := difference(abi, want[i], &got[i].Call); d != "" {
				t.Errorf("thread %d, call %d: %s; seen as %s", tid, i, d, syscalls.Format(&got[i].Call, 32))
				break
			}
		}
	}
	t.Logf("%d calls of %d threads compared, %d functions hooked", compared, threads, hooked)
	if compared < 50 || threads < 2 || hooked < 250 {
		t.Errorf("only %d calls of %d threads compared, %d functions hooked", compared, threads, hooked)
	}
	if s := tr.Stats(); s.Strays != 0 || s.Unfollowed != 0 {
		t.Errorf("stats %+v", s)
	}
}

// ends says whether a call is one that does not return.
func ends(abi syscalls.ABI, c tracedCall) bool {
	call := syscalls.ByNumber(abi, int(c.Number))
	return call != nil && (call.Name == "exit" || call.Name == "exit_group")
}

// difference says how a call is not the one that was seen, "" when it is.
func difference(abi syscalls.ABI, want tracedCall, got *event.Call) string {
	name := fmt.Sprint(want.Number)
	call := syscalls.ByNumber(abi, int(want.Number))
	if call != nil {
		name = call.Name
	}
	if uint64(got.Number) != want.Number || got.Name != name {
		return "it was " + name
	}
	if call != nil {
		for i := range call.Params {
			if got.Args[i] != want.Args[i] {
				return fmt.Sprintf("argument %d of %s was %#x", i, name, want.Args[i])
			}
		}
	}
	if want.Ended && (!got.Returned || got.Result != want.Result) {
		return fmt.Sprintf("%s gave %d", name, want.Result)
	}
	return ""
}
