package vmm_test

import (
	"bufio"
	"context"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"warder/internal/testguest"
	"warder/vmm"
)

const mib = 1 << 20

// patience is how long a guest may take to follow a request.
const patience = 3 * time.Minute

// until waits for cond to hold, which a guest brings about in its own time.
func until(t *testing.T, r *testguest.Run, what string, cond func() bool) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for !cond() {
		select {
		case <-r.Done():
			t.Fatalf("%s: the machine ended by %v", what, r.Wait())
		case <-time.After(20 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s: not in %v; %+v", what, patience, r.MemoryStats())
		}
	}
}

// orders are lines that the host's half sends to the guest's, over the serial
// port.
type orders struct{ lines *bufio.Scanner }

func newOrders(g *testguest.Guest) orders {
	tty, err := os.Open("/dev/ttyS0")
	g.Check(err)
	return orders{bufio.NewScanner(tty)}
}

// wait waits for the next order, which must be the one given.
func (o orders) wait(g *testguest.Guest, order string) {
	if !o.lines.Scan() || o.lines.Text() != order {
		g.Fatal("order ", o.lines.Text(), " (", o.lines.Err(), "), want ", order)
	}
}

// meminfo is a line of /proc/meminfo in bytes.
func meminfo(g *testguest.Guest, name string) uint64 {
	text, err := os.ReadFile("/proc/meminfo")
	g.Check(err)
	for line := range strings.Lines(string(text)) {
		if f := strings.Fields(line); f[0] == name+":" {
			kib, err := strconv.ParseUint(f[1], 10, 64)
			g.Check(err)
			return kib << 10
		}
	}
	g.Fatal("no ", name, " in /proc/meminfo")
	return 0
}

// touch takes n bytes of memory and writes to every page.
func touch(g *testguest.Guest, n int) []byte {
	b, err := unix.Mmap(-1, 0, n, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
	g.Check(err)
	for i := 0; i < n; i += 4096 {
		b[i] = 1
	}
	return b
}

// pressure is how much the guest of TestBalloon wants while its balloon has most
// of its memory. There is to be more than 64 MiB beyond it and what the kernel
// has: so much may be out of the guest's reach while it reports free pages, and a
// Linux that finds its balloon empty just then gives up.
const pressure = 64 * mib

var balloonGuest = testguest.Register("balloon", func(g *testguest.Guest) {
	o := newOrders(g)

	// What a program used is reported when it is free again.
	b := touch(g, 48*mib)
	g.Report("touched", nil)
	o.wait(g, "free")
	g.Check(unix.Munmap(b))
	g.Report("freed", nil)

	// The balloon takes what the page cache has.
	o.wait(g, "read")
	disk, err := os.Open("/dev/vda")
	g.Check(err)
	n, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, struct{ io.Reader }{disk}, make([]byte, mib))
	g.Check(err)
	g.Report("cached", n)

	o.wait(g, "meminfo")
	g.Report("total", meminfo(g, "MemTotal"))
	g.Report("free", meminfo(g, "MemFree"))

	// Under pressure the balloon gives way.
	o.wait(g, "allocate")
	b = touch(g, pressure)
	g.Report("allocated", nil)
	o.wait(g, "free")
	g.Check(unix.Munmap(b))
	g.Report("freed", nil)

	o.wait(g, "end")
})

// TestBalloon has a guest give memory back in every way there is, and counts
// what the host gets.
func TestBalloon(t *testing.T) {
	// With room for what is out of reach while it is reported, see pressure.
	const ram = 256 * mib
	image := filepath.Join(t.TempDir(), "disk")
	if err := os.WriteFile(image, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(image, 80*mib); err != nil {
		t.Fatal(err)
	}
	in, keyboard := io.Pipe()
	r := balloonGuest.Start(t, vmm.Config{
		Memory: ram, Disks: []vmm.Disk{{Path: image, ReadOnly: true}}, Serial: vmm.Stream{In: in},
	})
	order := func(s string) { io.WriteString(keyboard, s+"\n") }
	used := func() uint64 { return r.MemoryStats().Used }

	r.Event("touched")
	before := used()
	order("free")
	r.Event("freed")
	until(t, r, "what a program used comes back", func() bool { return used()+24*mib < before })
	t.Logf("free page reporting: %d MiB, then %d MiB", before/mib, used()/mib)

	order("read")
	if n := testguest.Get[int](r, "cached"); n != 80*mib {
		t.Errorf("the guest read %d bytes", n)
	}
	const rest = 92 * mib
	before = used()
	if before < rest+32*mib {
		t.Errorf("the guest uses %d MiB before inflation, too little for this test", before/mib)
	}
	if err := r.SetMemory(rest); err != nil {
		t.Fatal(err)
	}
	until(t, r, "inflate", func() bool { return r.MemoryStats().Balloon.Actual == ram-rest })
	// Linux can move what the balloon has: a page that comes back stays with the
	// host's account until it is taken again. 1.2 MiB were, on a busy host.
	if got := used(); got > rest+4*mib {
		t.Errorf("the guest still uses %d bytes of the host, was told to make do with %d", got, rest)
	}
	t.Logf("inflation: %d MiB, then %d MiB; %+v", before/mib, used()/mib, r.MemoryStats().Balloon)

	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if _, err := r.GuestMemory(ctx); err != nil { // the first may be from before
		t.Fatal(err)
	}
	stats, err := r.GuestMemory(ctx)
	if err != nil {
		t.Fatal(err)
	}
	order("meminfo")
	if total := testguest.Get[uint64](r, "total"); stats.Total != total {
		t.Errorf("the driver says %d bytes in total, /proc/meminfo %d", stats.Total, total)
	}
	free := testguest.Get[uint64](r, "free")
	if max(free, stats.Free)-min(free, stats.Free) > 8*mib {
		t.Errorf("the driver says %d bytes are free, /proc/meminfo %d", stats.Free, free)
	}
	if stats.Available == 0 || stats.Available > ram || stats.MinorFaults == 0 {
		t.Errorf("statistics: %+v", stats)
	}

	order("allocate")
	r.Event("allocated")
	if stats.Available > pressure*3/4 {
		t.Errorf("the guest had %d MiB without its balloon, too much for this test", stats.Available/mib)
	}
	if got := r.MemoryStats().Balloon.Actual; got > ram-rest-(pressure-stats.Available)/2 {
		t.Errorf("a program of the guest has %d MiB of %d, and still %d MiB are in the balloon", pressure/mib, ram/mib, got/mib)
	}
	order("free")
	r.Event("freed")
	if err := r.SetMemory(ram); err != nil {
		t.Fatal(err)
	}
	until(t, r, "deflate", func() bool { return r.MemoryStats().Balloon.Actual == 0 })
	order("end")
	r.Finish()
}

var reloadsBalloon = testguest.Register("reloads-balloon", func(g *testguest.Guest) {
	for range 5 {
		reloadDriver(g, "virtio_balloon", "0x0005")
		g.Report("loaded", nil)
	}
	newOrders(g).wait(g, "end")
})

// TestBalloonDriverReloads unloads and loads the guest's driver while the host
// keeps changing its mind, and asks for statistics.
func TestBalloonDriverReloads(t *testing.T) {
	const ram = 192 * mib
	in, keyboard := io.Pipe()
	r := reloadsBalloon.Start(t, vmm.Config{Memory: ram, Serial: vmm.Stream{In: in}})
	ctx, cancel := context.WithCancel(t.Context())
	polls := make(chan int, 1)
	go func() {
		n := 0
		for i := uint64(0); ctx.Err() == nil; i++ {
			r.SetMemory(ram - 8*mib*(i%5))
			if _, err := r.GuestMemory(ctx); err == nil {
				n++
			}
		}
		polls <- n
	}()
	for range 5 {
		r.Event("loaded")
	}
	cancel()
	if n := <-polls; n == 0 {
		t.Error("no statistics came")
	}
	if err := r.SetMemory(ram - 40*mib); err != nil {
		t.Fatal(err)
	}
	until(t, r, "inflate after reloads", func() bool { return r.MemoryStats().Balloon.Actual == 40*mib })
	io.WriteString(keyboard, "end\n")
	r.Finish()
}
