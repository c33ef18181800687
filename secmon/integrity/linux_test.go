package integrity

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"warder/boot/kernelpkg"
	"warder/internal/testguest"
	"warder/internal/testkvm"
	"warder/secmon/event"
	"warder/secmon/introspect"
	"warder/secmon/trap"
	"warder/vmm"
)

func TestMain(m *testing.M) { testguest.Main(m) }

// step is what the host has the guest do next, by writing to its memory.
var step atomic.Uint32

// never is code that a test changes.
//
//go:noinline
func never(n int) int { return n*n + 4711 }

// place is where things are in the guest's first process.
type place struct{ Step, Never uint64 }

var intruded = testguest.Register("intruded", func(g *testguest.Guest) {
	if step.Load() == 99 { // never, but the linker is not to know
		step.Store(uint32(never(1)))
	}
	g.Report("up", place{pointer(&step), address(never)})
	n := uint32(0)
	next := func() {
		for n++; step.Load() < n; {
			time.Sleep(5 * time.Millisecond)
		}
	}
	next() // a jump label is turned: time stamps of packets are wanted
	s, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM, 0)
	g.Check(err)
	g.Check(unix.SetsockoptInt(s, unix.SOL_SOCKET, unix.SO_TIMESTAMP, 1))
	g.Report("stamped", nil)
	next() // code of no file
	code, err := unix.Mmap(-1, 0, 8192, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	g.Check(err)
	g.Check(unix.Mprotect(code, unix.PROT_READ|unix.PROT_EXEC))
	g.Report("mapped", nil)
	next()
	g.Check(unix.Munmap(code))
	g.Report("unmapped", nil)
	next() // another program
	self, err := os.ReadFile("/init")
	g.Check(err)
	g.Check(os.WriteFile("/tmp/other", self, 0o755))
	c := exec.Command("/tmp/other", "-test.run=^TestAsleep$")
	c.Env = []string{"ASLEEP=1"}
	g.Check(c.Start())
	g.Report("ran", nil)
	next()
	g.Check(c.Process.Kill())
	c.Wait()
	g.Report("killed", nil)
	next()
})

// TestAsleep is what the other program does.
func TestAsleep(*testing.T) {
	if os.Getenv("ASLEEP") != "" {
		time.Sleep(time.Hour)
	}
}

// TestIntruded has things done to a guest that should not be, one after the other, by
// itself and from outside.
func TestIntruded(t *testing.T) {
	testkvm.Need(t)
	pkg, err := kernelpkg.Default(runtime.GOARCH)
	if err != nil {
		t.Fatal(err)
	}
	kernel, err := introspect.OpenWhole(pkg.KernelPath)
	if err != nil {
		t.Fatal(err)
	}
	self, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	r := intruded.Start(t, vmm.Config{})
	at := testguest.Get[place](r, "up")
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	live, err := introspect.Attach(ctx, introspect.Of(r.Machine), kernel)
	if err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	b, err := Take(ctx, live, Config{
		Programs: map[string][]byte{"/init": self},
		Unhook:   func(at uint64, code []byte) { trap.Unhook(trap.Of(r.Machine), at, code) },
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("taken after %v: %d KiB of code, %d jump labels, %d pages of vdso", time.Since(began), (b.text.to-b.text.from)>>10, len(b.text.jumps), len(b.vdso))
	check := func(when string, want ...string) {
		t.Helper()
		began := time.Now()
		found, err := b.Check(ctx)
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("%s: checked after %v", when, time.Since(began))
		ok := len(found) >= len(want) && (len(want) > 0 || len(found) == 0)
		for i := range want {
			ok = ok && slices.ContainsFunc(found, func(c Change) bool { return strings.HasPrefix(c.String(), want[i]) })
		}
		if !ok {
			t.Errorf("%s: %q, want %q", when, found, want)
		}
	}
	n := byte(0)
	next := func(event string) {
		t.Helper()
		n++
		if err := live.Write(ctx, 1, at.Step, []byte{n, 0, 0, 0}); err != nil {
			t.Fatal(err)
		}
		if event != "" {
			r.Event(event)
		}
	}
	// change changes a byte from outside, has f look, and changes it back.
	change := func(pid int, at uint64, f func()) {
		t.Helper()
		var was [1]byte
		if err := live.Read(ctx, pid, at, was[:]); err != nil {
			t.Fatal(err)
		}
		if err := live.Write(ctx, pid, at, []byte{was[0] ^ 1}); err != nil {
			t.Fatal(err)
		}
		f()
		if err := live.Write(ctx, pid, at, was[:]); err != nil {
			t.Fatal(err)
		}
	}

	check("at first")
	before := labels(t, b, live)
	next("stamped")
	for bytes.Equal(before, labels(t, b, live)) { // the kernel does it by and by
		time.Sleep(10 * time.Millisecond)
	}
	check("jump labels were turned")
	traps, err := trap.Arm(ctx, trap.Of(r.Machine), trap.Config{VM: "vm", Kernel: kernel, Calls: []string{"execve", "openat"}, Sink: func(event.Event) unix.Errno { return 0 }})
	if err != nil {
		t.Fatal(err)
	}
	check("hooks are on")
	if changed, err := b.text.changed(live.View(), nil); err != nil || len(changed) == 0 {
		t.Errorf("and nobody knows of them: changed at %#x, %v", changed, err)
	}
	if err := traps.Disarm(ctx); err != nil {
		t.Fatal(err)
	}
	check("hooks are off")

	next("mapped")
	check("code of no file", "process: 1 (init): code at ")
	next("unmapped")
	check("it is gone")
	next("ran")
	check("another program", "process: ")
	next("killed")
	check("it is gone")
	change(1, at.Never+2, func() { check("code of a process was changed", "process: 1 (init): code at ") })
	symbol := func(name string) uint64 {
		t.Helper()
		at, err := live.Addr(name)
		if err != nil {
			t.Fatal(err)
		}
		return at
	}
	change(0, symbol("panic")+32, func() { check("code of the kernel was changed", "kernel code: it is another one from ") })
	// The high half of the pointer to a handler, which nobody calls here.
	change(0, symbol("sys_call_table")+8*unix.SYS_ACCT+6, func() { check("a system call leads elsewhere", "entry: native system call ") })
	maps, err := live.Maps(ctx, 1)
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range maps {
		if m.Name == vdso { // bytes of its ELF header that say nothing
			change(1, uint64(m.Start)+12, func() { check("the vdso was changed", "process: 1 (init): code at ") })
		}
	}
	check("all is as it was")
	next("")
	r.Finish()
}

// labels are the bytes of all jump labels.
func labels(t *testing.T, b *Baseline, live *introspect.Live) (all []byte) {
	t.Helper()
	v := live.View()
	for _, j := range b.text.jumps {
		code := make([]byte, j.size)
		if err := v.ReadAt(code, j.at); err != nil {
			t.Fatal(err)
		}
		all = append(all, code...)
	}
	return all
}
