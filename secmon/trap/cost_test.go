package trap_test

import (
	"os"
	"path/filepath"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"warder/internal/testguest"
	"warder/internal/testkvm"
	"warder/secmon/event"
	"warder/secmon/trap"
	"warder/vmm"
	"warder/vmm/pagetable"
)

const costCalls = 500

// phases are what is hooked while the guest makes its calls.
var phases = []struct {
	name string
	cfg  *trap.Config // without what all have in common; nil for no hooks
	want uint64       // exits of hooks for each of the guest's calls of getppid and openat
	asks uint64       // how often a vCPU is asked for a register, for each of them
}{
	{"no hooks", nil, 0, 0},
	{"other calls hooked", &trap.Config{Calls: []string{"mkdirat", "connect"}}, 0, 0},
	{"entry", &trap.Config{Calls: []string{"getppid", "openat"}}, 1, 4},
	{"entry with program and arguments", &trap.Config{Calls: []string{"getppid", "openat"}, Process: true, Arguments: true, Data: 32}, 1, 4},
	{"entry and result", &trap.Config{Calls: []string{"getppid", "openat"}, Result: func(event.Event) {}}, 2, 11},
}

// asked is a machine that counts what its vCPUs are asked for at hooks: where each register
// is a system call that is what a hook costs.
type asked struct {
	trap.Machine
	n atomic.Uint64
}

func (a *asked) SetHook(f trap.HookFunc) error {
	if f == nil {
		return a.Machine.SetHook(nil)
	}
	cpus := make(map[int]*askedCPU) // made before, for they are on the heap
	for _, c := range a.CPUs() {
		cpus[c.ID()] = &askedCPU{c, a}
	}
	return a.Machine.SetHook(func(c trap.CPU) vmm.TrapAction { return f(cpus[c.ID()]) })
}

type askedCPU struct {
	trap.CPU
	m *asked
}

func (c *askedCPU) PC() uint64                             { c.m.n.Add(1); return c.CPU.PC() }
func (c *askedCPU) Arg(n int) uint64                       { c.m.n.Add(1); return c.CPU.Arg(n) }
func (c *askedCPU) AddressSpace() (pagetable.Space, error) { c.m.n.Add(4); return c.CPU.AddressSpace() }
func (c *askedCPU) WholeSpace() (pagetable.Space, error)   { c.m.n.Add(1); return c.CPU.WholeSpace() }
func (c *askedCPU) StackPointer() (uint64, error)          { c.m.n.Add(1); return c.CPU.StackPointer() }
func (c *askedCPU) ReturnAddress() (uint64, error)         { c.m.n.Add(1); return c.CPU.ReturnAddress() }
func (c *askedCPU) SetReturnAddress(pc uint64) error       { c.m.n.Add(1); return c.CPU.SetReturnAddress(pc) }
func (c *askedCPU) Result() (uint64, error)                { c.m.n.Add(1); return c.CPU.Result() }
func (c *askedCPU) KernelBase() (uint64, error)            { c.m.n.Add(1); return c.CPU.KernelBase() }
func (c *askedCPU) KernelSpace(sure bool) (pagetable.Space, error) {
	if sure {
		c.m.n.Add(3)
	}
	return c.CPU.KernelSpace(sure)
}

var cost = testguest.Register("cost", func(g *testguest.Guest) {
	runtime.LockOSThread()
	g.Check(os.MkdirAll("/mnt/share", 0o755))
	g.Check(unix.Mount("files", "/mnt/share", "virtiofs", 0, ""))
	g.Check(os.WriteFile("/tmp/cost", nil, 0o600))
	for _, p := range phases {
		pause(g, p.name)
		var took [2]time.Duration
		start := time.Now()
		for range costCalls {
			unix.Getppid()
		}
		took[0] = time.Since(start) / costCalls
		fds := make([]int, costCalls/10)
		start = time.Now()
		for i := range fds {
			fd, err := unix.Open("/tmp/cost", unix.O_RDONLY, 0)
			g.Check(err)
			fds[i] = fd
		}
		took[1] = time.Since(start) / time.Duration(len(fds))
		for _, fd := range fds {
			g.Check(unix.Close(fd))
		}
		g.Report(p.name, took)
	}
	pause(g, "done")
})

// meter counts this process's allocations from one hit to another.
type meter struct {
	hits, from, to uint64
	mallocs        uint64
}

func (m *meter) hit(event.Event) unix.Errno {
	m.hits++
	var s runtime.MemStats
	switch m.hits {
	case m.from:
		runtime.ReadMemStats(&s)
		m.mallocs = s.Mallocs
	case m.to:
		runtime.ReadMemStats(&s)
		m.mallocs = s.Mallocs - m.mallocs
	}
	return 0
}

// TestUnwatchedCallsCostNothing counts the exits that calls cost, and the allocations
// once everything was met. Times go to the log: they are of whatever machine this
// runs on.
func TestUnwatchedCallsCostNothing(t *testing.T) {
	testkvm.Need(t)
	dir := t.TempDir()
	k := kernel(t)
	r := cost.Start(t, vmm.Config{Shares: []vmm.Share{{Tag: "files", Dir: dir}}})
	m := &asked{Machine: trap.Of(r.Machine)}
	for _, p := range phases {
		testguest.Get[uint32](r, p.name)
		var tr *trap.Traps
		seen := meter{from: 50, to: 500}
		if p.cfg != nil {
			cfg := *p.cfg
			cfg.VM, cfg.Kernel, cfg.Sink = "vm", k, seen.hit
			var err error
			if tr, err = trap.Arm(t.Context(), m, cfg); err != nil {
				t.Fatal(err)
			}
		}
		before, asked := r.Stats().Traps, m.n.Load()
		if err := os.WriteFile(filepath.Join(dir, p.name), nil, 0o644); err != nil {
			t.Fatal(err)
		}
		took := testguest.Get[[2]time.Duration](r, p.name)
		exits, asks := r.Stats().Traps-before, m.n.Load()-asked
		t.Logf("%s: getppid %v, openat %v, %d exits, %d registers", p.name, took[0], took[1], exits, asks)
		const calls = costCalls + costCalls/10
		// The guest's runtime opens nothing meanwhile, and does little else.
		if low := p.want * calls; exits < low || exits > low+low/10 {
			t.Errorf("%s: %d exits of hooks for %d calls, want %d a call", p.name, exits, calls, p.want)
		}
		if most := p.asks * calls; asks > most+most/10 {
			t.Errorf("%s: %d registers were asked for, want %d for each of %d calls, and few more", p.name, asks, p.asks, calls)
		}
		if tr == nil {
			continue
		}
		if err := tr.Disarm(t.Context()); err != nil {
			t.Fatal(err)
		}
		t.Logf("%s: %d allocations in %d hits", p.name, seen.mallocs, seen.to-seen.from)
		// Other goroutines have little to do meanwhile: a path that allocates does so at
		// least once a hit.
		if p.want > 0 && (seen.hits < seen.to || seen.mallocs >= seen.to-seen.from) {
			t.Errorf("%s: %d hits, %d allocations in %d of them", p.name, seen.hits, seen.mallocs, seen.to-seen.from)
		}
	}
	testguest.Get[uint32](r, "done")
	if err := os.WriteFile(filepath.Join(dir, "done"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	r.Finish()
}
