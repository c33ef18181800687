package vmm_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/mdlayher/vsock"
	"golang.org/x/sys/unix"

	"warder/devices/guestmem"
	"warder/internal/testguest"
	"warder/vmm"
)

func TestMain(m *testing.M) { testguest.Main(m) }

// machine is what a guest finds out about itself.
type machine struct {
	CPUs    int
	MemKiB  uint64
	Arch    string
	Cmdline string
	Random  int
	Clock   time.Time
}

var aboutItself = testguest.Register("about-itself", func(g *testguest.Guest) {
	var si unix.Sysinfo_t
	g.Check(unix.Sysinfo(&si))
	cmdline, err := os.ReadFile("/proc/cmdline")
	g.Check(err)
	random, err := os.Open("/dev/hwrng")
	g.Check(err)
	n, err := io.ReadFull(random, make([]byte, 64))
	g.Check(err)
	g.Report("machine", machine{
		CPUs: runtime.NumCPU(), MemKiB: uint64(si.Totalram) * uint64(si.Unit) / 1024,
		Arch: runtime.GOARCH, Cmdline: string(cmdline), Random: n, Clock: time.Now(),
	})
})

func TestLinuxFindsItsMachine(t *testing.T) {
	cpus := min(2, runtime.NumCPU())
	before := time.Now()
	r := aboutItself.Start(t, vmm.Config{CPUs: cpus, Memory: 320 << 20, Cmdline: "hello=world"})
	got := testguest.Get[machine](r, "machine")
	r.Finish()
	if got.CPUs != cpus || got.Arch != runtime.GOARCH || got.Random != 64 || !strings.Contains(got.Cmdline, "hello=world") {
		t.Errorf("the guest found %+v", got)
	}
	// The kernel keeps some of its memory from the start.
	if got.MemKiB > 320<<10 || got.MemKiB < 200<<10 {
		t.Errorf("the guest found %d KiB of 320 MiB", got.MemKiB)
	}
	if d := got.Clock.Sub(before); d < -2*time.Second || d > time.Since(before)+2*time.Second {
		t.Errorf("the guest's clock was %v past the start", d)
	}
	s := r.Stats()
	if len(s.Exits) == 0 || s.MemoryUsed == 0 || s.MemoryUsed > 320<<20 || len(s.Devices) != 2 || s.Devices[0].Chains == 0 {
		t.Errorf("statistics: %+v", s)
	}
}

var resets = testguest.Register("resets", func(g *testguest.Guest) {
	g.Check(unix.Reboot(unix.LINUX_REBOOT_CMD_RESTART))
})

var panics = testguest.Register("panics", func(g *testguest.Guest) {
	g.Report("about to", nil)
	g.Check(os.WriteFile("/proc/sysrq-trigger", []byte("c"), 0))
})

func TestResetAndPanicEndTheMachine(t *testing.T) {
	if e := resets.Start(t, vmm.Config{}).End(); e.Reason != vmm.Reset {
		t.Errorf("a guest that reboots ended by %v", e)
	}
	r := panics.Start(t, vmm.Config{})
	r.Event("about to")
	if e := r.End(); e.Reason != vmm.Reset {
		t.Errorf("a guest that panics ended by %v", e)
	}
}

// counts reports a page by its addresses, virtual and physical, and counts in its
// first word as fast as the guest can.
var counts = testguest.Register("counts", func(g *testguest.Guest) {
	page, err := unix.Mmap(-1, 0, os.Getpagesize(), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS|unix.MAP_LOCKED)
	g.Check(err)
	copy(page[8:], "counter's page")
	g.Report("page", [2]uint64{address(page), physical(g, page)})
	for !bytes.Equal(page[16:20], []byte("stop")) {
		binary.LittleEndian.PutUint64(page, binary.LittleEndian.Uint64(page)+1)
	}
})

// physical is the guest-physical address of mapped memory, by the kernel's own
// account (Documentation/admin-guide/mm/pagemap.rst).
func physical(g *testguest.Guest, p []byte) uint64 {
	f, err := os.Open("/proc/self/pagemap")
	g.Check(err)
	defer f.Close()
	var entry [8]byte
	va := address(p)
	_, err = f.ReadAt(entry[:], int64(va/uint64(os.Getpagesize())*8))
	g.Check(err)
	return binary.LittleEndian.Uint64(entry[:]) & (1<<55 - 1) * uint64(os.Getpagesize())
}

// TestPausedGuestStandsStill also reads the guest's memory by the address that
// the guest itself has for it.
func TestPausedGuestStandsStill(t *testing.T) {
	r := counts.Start(t, vmm.Config{})
	page := testguest.Get[[2]uint64](r, "page")
	va, pa := page[0], page[1]
	read := func() (n uint64) {
		err := r.WithVCPUsStopped(func() error {
			var b [24]byte
			// The one vCPU may be in an interrupt or another process; the counter
			// runs nearly all of the time.
			if err := r.VCPU(0).ReadVirtual(va, b[:]); err != nil {
				return err
			}
			direct := make([]byte, len(b))
			if err := r.Memory().ReadAt(direct, guestmem.Addr(pa)); err != nil {
				return err
			}
			if diff := cmp.Diff(direct, b[:]); diff != "" {
				t.Errorf("virtual %#x and physical %#x differ: %s", va, pa, diff)
			}
			n = binary.LittleEndian.Uint64(b[:])
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	// Looked at without a pause: a guest that is stopped again and again does
	// not get anywhere.
	goesOn := func(from uint64) {
		for n := from; n == from; time.Sleep(time.Millisecond) {
			var err error
			if n, err = r.Memory().LoadUint64(guestmem.Addr(pa)); err != nil {
				t.Fatal(err)
			}
		}
	}
	goesOn(read())
	if err := r.Pause(); err != nil {
		t.Fatal(err)
	}
	still := read()
	time.Sleep(50 * time.Millisecond) // time in which a guest that ran would count
	if again := read(); again != still {
		t.Errorf("a paused guest went from %d to %d", still, again)
	}
	if err := r.Resume(); err != nil {
		t.Fatal(err)
	}
	goesOn(still)
	if err := r.Memory().WriteAt([]byte("stop"), guestmem.Addr(pa)+16); err != nil {
		t.Fatal(err)
	}
	r.Finish()
}

var writesToPage = testguest.Register("writes-to-page", func(g *testguest.Guest) {
	page, err := unix.Mmap(-1, 0, os.Getpagesize(), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS|unix.MAP_LOCKED)
	g.Check(err)
	page[0] = 1
	g.Report("page", physical(g, page))
	for !bytes.HasPrefix(page, []byte{2}) { // the host says that the page is protected
	}
	page[100] = 42
	g.Report("wrote", page[100])
})

func TestWriteToProtectedPageWaits(t *testing.T) {
	r := writesToPage.Start(t, vmm.Config{})
	pa := guestmem.Addr(testguest.Get[uint64](r, "page"))
	type seen struct {
		Page  uint64
		Value byte
	}
	writes := make(chan seen, 1)
	p, err := r.Watch(func(page guestmem.Addr) {
		var b [1]byte
		if err := r.Memory().ReadAt(b[:], pa+100); err != nil {
			t.Error(err)
		}
		writes <- seen{uint64(page), b[0]}
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.Watch(func(guestmem.Addr) {}); err == nil {
		t.Error("a machine could be watched twice")
	}
	if err := p.Protect(pa, 4096); err != nil {
		t.Fatal(err)
	}
	if err := r.Memory().WriteAt([]byte{2}, pa); err != nil {
		t.Fatal(err)
	}
	if got := <-writes; got != (seen{uint64(pa), 0}) {
		t.Errorf("told of %+v, want page %#x before the write", got, pa)
	}
	if got := testguest.Get[byte](r, "wrote"); got != 42 {
		t.Errorf("the write left %d", got)
	}
	r.Finish()
	// Without a Close of the protection, the machine's ends it.
	if err := r.Close(); err != nil {
		t.Error(err)
	}
	if err := p.Protect(pa, 4096); err == nil {
		t.Error("memory that is gone could be protected")
	}
	if err := p.Close(); err != nil {
		t.Error(err)
	}
	if _, err := r.Watch(func(guestmem.Addr) {}); err == nil {
		t.Error("a closed machine could be watched")
	}
}

var usesDevices = testguest.Register("uses-devices", func(g *testguest.Guest) {
	// A disk that can be written, one that can't.
	disk, err := os.OpenFile("/dev/vda", os.O_RDWR|unix.O_SYNC, 0)
	g.Check(err)
	head := make([]byte, 512)
	_, err = disk.ReadAt(head, 0)
	g.Check(err)
	g.Report("disk", string(bytes.TrimRight(head, "\x00")))
	_, err = disk.WriteAt(bytes.Repeat([]byte("guest.."), 1024)[:4096], 4096)
	g.Check(err)
	g.Check(disk.Close())
	disk, err = os.OpenFile("/dev/vdb", os.O_RDWR|unix.O_SYNC, 0)
	if err == nil {
		_, err = disk.WriteAt(head, 0)
	}
	g.Report("read-only disk", fmt.Sprint(err))

	// A directory.
	g.Check(os.MkdirAll("/tmp/share", 0o755))
	g.Check(unix.Mount("files", "/tmp/share", "virtiofs", 0, ""))
	from, err := os.ReadFile("/tmp/share/from-host")
	g.Check(err)
	g.Report("share", string(from))
	g.Check(os.WriteFile("/tmp/share/from-guest", []byte("hello host"), 0o644))
	_, err = os.ReadFile("/tmp/share/../../../etc/hostname")
	g.Report("outside", err != nil)
	g.Check(unix.Unmount("/tmp/share", 0))

	// A socket.
	c, err := vsock.Dial(vsock.Host, 7000, nil)
	g.Check(err)
	_, err = io.Copy(c, strings.NewReader(strings.Repeat("x", 1<<20)))
	g.Check(err)
	g.Check(c.CloseWrite())
	answer, err := io.ReadAll(c)
	g.Check(err)
	g.Report("socket", string(answer))

	// A console.
	tty, err := os.OpenFile("/dev/hvc0", os.O_RDWR|unix.O_NOCTTY, 0)
	g.Check(err)
	_, err = tty.WriteString("typed here\n")
	g.Check(err)
	line := make([]byte, 64)
	n, err := tty.Read(line)
	g.Check(err)
	g.Report("console", string(line[:n]))
})

func TestLinuxUsesItsDevices(t *testing.T) {
	dir := t.TempDir()
	image := filepath.Join(dir, "disk")
	if err := os.WriteFile(image, append([]byte("host's disk"), make([]byte, 1<<20-11)...), 0o644); err != nil {
		t.Fatal(err)
	}
	fixed := filepath.Join(dir, "fixed")
	if err := os.WriteFile(fixed, make([]byte, 1<<20), 0o644); err != nil {
		t.Fatal(err)
	}
	share := filepath.Join(dir, "share")
	if err := os.Mkdir(share, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(share, "from-host"), []byte("hello guest"), 0o644); err != nil {
		t.Fatal(err)
	}
	keyboard, typed := net.Pipe()
	screen := &lines{got: make(chan string, 8)}
	// The socket's listener must be there before the guest dials.
	r := usesDevices.Start(t, vmm.Config{
		Disks:    []vmm.Disk{{Path: image, Serial: "data"}, {Path: fixed, ReadOnly: true}},
		Shares:   []vmm.Share{{Tag: "files", Dir: share}},
		VsockCID: 5,
		Console:  vmm.Stream{In: keyboard, Out: screen},
		CPUMax:   64, // devices' workers are measured
	})
	l, err := r.Vsock().Listen(7000)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	served := make(chan int64, 1)
	go func() {
		c, err := l.Accept()
		if err != nil {
			return
		}
		n, _ := io.Copy(io.Discard, c)
		io.WriteString(c, "thanks")
		c.Close()
		served <- n
	}()
	if got := testguest.Get[string](r, "disk"); got != "host's disk" {
		t.Errorf("the disk began with %q", got)
	}
	if got := testguest.Get[string](r, "read-only disk"); !strings.Contains(got, "not permitted") && !strings.Contains(got, "read-only") {
		t.Errorf("a write to the read-only disk gave %q", got)
	}
	if got := testguest.Get[string](r, "share"); got != "hello guest" {
		t.Errorf("the share's file held %q", got)
	}
	if !testguest.Get[bool](r, "outside") {
		t.Error("the guest read a file outside the share")
	}
	if got := testguest.Get[string](r, "socket"); got != "thanks" || <-served != 1<<20 {
		t.Errorf("over the socket came %q", got)
	}
	if got := <-screen.got; got != "typed here" {
		t.Errorf("the console showed %q", got)
	}
	go io.WriteString(typed, "from the host\n")
	if got := testguest.Get[string](r, "console"); got != "from the host\n" {
		t.Errorf("the guest read %q from the console", got)
	}
	r.Finish()
	if used := r.Stats().DeviceTime; used == 0 || used > processTime(t) {
		t.Errorf("the devices took %v of %v", used, processTime(t))
	}
	written, err := os.ReadFile(image)
	if err != nil || !bytes.Equal(written[4096:4103], []byte("guest..")) {
		t.Errorf("the image holds % x (%v)", written[4096:4103], err)
	}
	if got, err := os.ReadFile(filepath.Join(share, "from-guest")); err != nil || string(got) != "hello host" {
		t.Errorf("the shared file holds %q (%v)", got, err)
	}
}

// lines is a screen that is read by the line.
type lines struct {
	buf []byte
	got chan string
}

func (l *lines) Write(p []byte) (int, error) {
	for _, b := range p {
		switch b {
		case '\n':
			l.got <- string(l.buf)
			l.buf = nil
		case '\r':
		default:
			l.buf = append(l.buf, b)
		}
	}
	return len(p), nil
}

var spins = testguest.Register("spins", func(g *testguest.Guest) {
	g.Report("up", nil)
	for {
		time.Sleep(time.Hour)
	}
})

// TestMachinesLiveTogether kills one of two machines in one process; the other
// does not notice. A guest that does not answer to its power button is killed
// when the patience ends.
func TestMachinesLiveTogether(t *testing.T) {
	a := spins.Start(t, vmm.Config{Name: "a"})
	b := spins.Start(t, vmm.Config{Name: "b"})
	a.Event("up")
	b.Event("up")
	a.Kill()
	if e := a.End(); e.Reason != vmm.Killed {
		t.Errorf("a ended by %v", e)
	}
	if err := b.Pause(); err != nil {
		t.Errorf("b after a was killed: %v", err)
	}
	if err := b.Resume(); err != nil {
		t.Error(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if err := b.Stop(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Stop of a guest that does not listen: %v", err)
	}
	if e := b.End(); e.Reason != vmm.Killed {
		t.Errorf("b ended by %v", e)
	}
}
