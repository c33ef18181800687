package act_test

import (
	"runtime"
	"slices"
	"sync"
	"testing"

	"warder/boot"
	"warder/boot/kernelpkg"
	"warder/internal/testguest"
	"warder/internal/testkvm"
	"warder/secmon/act"
	"warder/secmon/event"
	"warder/secmon/introspect"
	"warder/vmm"
)

func TestMain(m *testing.M) { testguest.Main(m) }

var boots = testguest.Register("boots", func(g *testguest.Guest) { g.Report("up", nil) })

// TestLinuxSetsItsEntry watches Linux boot: it sets the entry of system calls, which
// has its name at once, on every CPU, and nobody moves it.
func TestLinuxSetsItsEntry(t *testing.T) {
	testkvm.Need(t)
	pkg, err := kernelpkg.Default(runtime.GOARCH)
	if err != nil {
		t.Fatal(err)
	}
	opened, err := boot.Open(pkg.KernelPath, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	kernel, err := introspect.LoadBoot(opened)
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	var events []event.Event
	r := boots.Start(t, vmm.Config{CPUs: min(2, runtime.NumCPU())})
	act.Watch(r.Machine, act.Config{VM: "vm", Kernel: kernel, Sink: func(e event.Event) {
		mu.Lock()
		defer mu.Unlock()
		events = append(events, e)
	}})
	r.Event("up")
	r.Finish()
	mu.Lock()
	defer mu.Unlock()
	set := func(e event.Event) bool {
		return e.Access.Name == "LSTAR" && e.Access.Symbol == "entry_SYSCALL_64" && e.Action == vmm.RegisterWrite.String()
	}
	if !slices.ContainsFunc(events, set) {
		t.Error("nobody set LSTAR to entry_SYSCALL_64")
	}
	for _, e := range events {
		if e.Action == act.EntryMoved {
			t.Errorf("%s", e.Message)
		}
	}
	if t.Failed() {
		for _, e := range events {
			t.Logf("%s: %s at %s", e.Action, e.Message, e.Access.PCSymbol)
		}
	}
}
