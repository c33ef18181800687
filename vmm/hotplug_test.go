package vmm_test

import (
	"errors"
	"io"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"warder/devices/guestmem"
	"warder/internal/testguest"
	"warder/internal/testkvm"
	"warder/vmm"
)

// TestUnpluggedMemoryIsNotThere has a guest write to memory that was not plugged:
// it ends, and has taken nothing. (A KVM that emulates the guest takes the place
// for one without memory.)
func TestUnpluggedMemoryIsNotThere(t *testing.T) {
	testkvm.Need(t)
	base := map[string]guestmem.Addr{"amd64": 4 << 30, "arm64": 2 << 30}[runtime.GOARCH]
	m := rawMachine(t, codeUnplugged, vmm.Config{MemoryMax: 192 * mib})
	if s := m.MemoryStats(); s.Hotplug.Region != 128*mib || s.Hotplug.Plugged != 0 {
		t.Errorf("at the start: %+v", s)
	}
	if err := m.Memory().Check(base, 1); !errors.Is(err, guestmem.ErrRange) {
		t.Errorf("memory that was not plugged can be reached: %v", err)
	}
	e := ended(t, m)
	if e.Reason != vmm.Crashed || !strings.Contains(e.String(), "does not let it have") {
		t.Errorf("ended by %v", e)
	}
	if used := m.MemoryStats().Used; used > 64*mib {
		t.Errorf("the guest has %d bytes", used)
	}
}

func TestMemoryMaxIsChecked(t *testing.T) {
	for _, c := range []vmm.Config{
		{Memory: 256 * mib, MemoryMax: 128 * mib},
		{Memory: 256 * mib, MemoryMax: 1 << 40},
		{Memory: 256 * mib, MemoryMax: 257 * mib},
		{Memory: 256 * mib, MemoryMax: 64<<30 + 2*mib}, // in blocks of 16 MiB
	} {
		c.Kernel = "none"
		if _, err := vmm.New(c); err == nil || !strings.Contains(err.Error(), "of memory") {
			t.Errorf("%d to %d MiB: %v", c.Memory/mib, c.MemoryMax/mib, err)
		}
	}
}

// grown is how much memory the guest is given.
const grown = 96 * mib

// memoryBlocks is how many blocks of memory the guest's kernel manages.
func memoryBlocks(g *testguest.Guest) int {
	blocks, err := filepath.Glob("/sys/devices/system/memory/memory*")
	g.Check(err)
	return len(blocks)
}

var growsAndShrinks = testguest.Register("grows-and-shrinks", func(g *testguest.Guest) {
	o := newOrders(g)
	total, blocks := meminfo(g, "MemTotal"), memoryBlocks(g)
	g.Report("total", total)
	o.wait(g, "use")
	// What is plugged is on line a little later.
	for meminfo(g, "MemTotal") < total+grown-8*mib {
		time.Sleep(20 * time.Millisecond)
	}
	g.Report("grown", nil)
	b := touch(g, 80*mib)
	g.Report("used", nil)
	o.wait(g, "free")
	g.Check(unix.Munmap(b))
	g.Report("freed", nil)
	o.wait(g, "look")
	g.Report("total", meminfo(g, "MemTotal"))

	// The driver goes and comes while there is nothing plugged, and while it is
	// being asked. One that leaves memory behind could not come back.
	eventually(g, func() (int, bool) { n := memoryBlocks(g); return n, n == blocks })
	for range 3 {
		reloadDriver(g, "virtio_mem", "0x0018")
	}
	g.Report("loaded", nil)
	o.wait(g, "end")
})

// TestMemoryGrowsAndShrinks gives a guest memory while it runs, has it used, and
// takes it away again.
func TestMemoryGrowsAndShrinks(t *testing.T) {
	const start, most = 192 * mib, 192*mib + grown
	in, keyboard := io.Pipe()
	r := growsAndShrinks.Start(t, vmm.Config{Memory: start, MemoryMax: most, Serial: vmm.Stream{In: in}})
	order := func(s string) { io.WriteString(keyboard, s+"\n") }
	set := func(n uint64) {
		t.Helper()
		if err := r.SetMemory(n); err != nil {
			t.Fatal(err)
		}
	}
	plugged := func() uint64 { return r.MemoryStats().Hotplug.Plugged }

	before := testguest.Get[uint64](r, "total")
	if err := r.SetMemory(most + 1); err == nil {
		t.Error("more memory was granted than there is room for")
	}
	set(most)
	until(t, r, "grow", func() bool { return plugged() == most-start })
	order("use")
	r.Event("grown")
	r.Event("used")
	used := r.MemoryStats().Used
	if used < 80*mib {
		t.Errorf("the guest uses 80 MiB, but %d MiB of the host", used/mib)
	}
	order("free")
	r.Event("freed")
	set(start)
	until(t, r, "shrink", func() bool { return plugged() == 0 })
	if got := r.MemoryStats().Used; got > start {
		t.Errorf("the guest uses %d bytes of the host, was told to make do with %d", got, uint64(start))
	}
	t.Logf("used: %d MiB, then %d MiB", used/mib, r.MemoryStats().Used/mib)
	order("look")
	if total := testguest.Get[uint64](r, "total"); total > before+8*mib {
		t.Errorf("the guest still sees %d MiB in total, had %d", total/mib, before/mib)
	}
	r.Event("loaded")
	set(start + 64*mib)
	until(t, r, "grow after the driver was reloaded", func() bool { return plugged() == 64*mib })
	set(start - 16*mib)
	// Its kernel may have something in a block that it can't move.
	until(t, r, "shrink below the start", func() bool {
		return plugged() <= 16*mib && r.MemoryStats().Balloon.Actual == 16*mib
	})
	order("end")
	r.Finish()
}
