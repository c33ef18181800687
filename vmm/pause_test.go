package vmm_test

import (
	"bytes"
	"io"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/mdlayher/vsock"
	"golang.org/x/sys/unix"
	"golang.org/x/term"

	"warder/internal/testguest"
	"warder/vmm"
)

// worksHard keeps every device busy until the host hangs up.
var worksHard = testguest.Register("works-hard", func(g *testguest.Guest) {
	hangup := make(chan struct{})
	errs := make(chan error, 8)
	g.Report("working", nil) // while there is time for it
	forever := func(f func() error) {
		go func() {
			for {
				if err := f(); err != nil {
					errs <- err
					return
				}
			}
		}()
	}
	disk, err := os.OpenFile("/dev/vda", os.O_RDWR|unix.O_SYNC|unix.O_DIRECT, 0)
	g.Check(err)
	block, err := unix.Mmap(-1, 0, 64<<10, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	g.Check(err)
	forever(func() error { _, err := disk.WriteAt(block, 0); return err })
	back, err := unix.Mmap(-1, 0, 64<<10, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	g.Check(err)
	forever(func() error { _, err := disk.ReadAt(back, 256<<10); return err })

	g.Check(os.MkdirAll("/tmp/share", 0o755))
	g.Check(unix.Mount("files", "/tmp/share", "virtiofs", 0, ""))
	forever(func() error {
		if err := os.WriteFile("/tmp/share/f", block, 0o644); err != nil {
			return err
		}
		_, err := os.ReadFile("/tmp/share/f")
		return err
	})

	c, err := vsock.Dial(vsock.Host, 7000, nil)
	g.Check(err)
	go func() {
		io.Copy(io.Discard, c)
		close(hangup)
	}()
	tty, err := os.OpenFile("/dev/hvc0", os.O_RDWR|unix.O_NOCTTY, 0)
	g.Check(err)
	// An echo would be sent one byte at a time, with the CPU spinning on each: nothing else
	// would get on.
	_, err = term.MakeRaw(int(tty.Fd()))
	g.Check(err)
	typed := make([]byte, 4096)
	forever(func() error { _, err := tty.Read(typed); return err })
	forever(func() error { _, err := tty.WriteString("printed\n"); return err })
	random, err := os.Open("/dev/hwrng")
	g.Check(err)
	forever(func() error { _, err := random.Read(typed[:64]); return err })

	select {
	case <-hangup:
	case err := <-errs:
		g.Fatal(err)
	}
})

// typing is a keyboard that is never still, until it is closed.
type typing struct{ closed chan struct{} }

func (k typing) Read(p []byte) (int, error) {
	select {
	case <-k.closed:
		return 0, io.EOF
	default:
		return copy(p, "type type type type\n"), nil
	}
}

// TestPausedMachineIsStill pauses a machine whose devices are all at work, and
// whose host sides go on meanwhile: its memory does not change, nothing
// interrupts, and afterwards each device goes on.
func TestPausedMachineIsStill(t *testing.T) {
	dir := t.TempDir()
	image, share := filepath.Join(dir, "disk"), filepath.Join(dir, "share")
	if err := os.WriteFile(image, make([]byte, 1<<20), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(share, 0o755); err != nil {
		t.Fatal(err)
	}
	keyboard := typing{make(chan struct{})}
	defer close(keyboard.closed)
	r := worksHard.Start(t, vmm.Config{
		Memory: 192 << 20,
		Disks:  []vmm.Disk{{Path: image}}, Shares: []vmm.Share{{Tag: "files", Dir: share}},
		VsockCID: 5, Console: vmm.Stream{In: keyboard, Out: io.Discard},
	})
	l, err := r.Vsock().Listen(7000)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	accepted := make(chan net.Conn, 1)
	go func() {
		c, err := l.Accept()
		if err != nil {
			return
		}
		accepted <- c
		io.Copy(c, keyboard)
	}()
	r.Event("working")

	regions := r.Memory().Regions()
	copies := make([][]byte, len(regions))
	for round := range 3 {
		if err := r.Pause(); err != nil {
			t.Fatal(err)
		}
		for i, region := range regions {
			copies[i] = append(copies[i][:0], region.Bytes...)
		}
		stats := served(r.Stats())
		if err := r.PowerButton(); err != nil { // an interrupt that has to wait
			t.Error(err)
		}
		for i, region := range regions {
			if !bytes.Equal(copies[i], region.Bytes) {
				t.Fatalf("round %d: the memory of a paused machine changed", round)
			}
		}
		if diff := cmp.Diff(stats, served(r.Stats())); diff != "" {
			t.Fatalf("round %d: the devices of a paused machine went on: %s", round, diff)
		}
		if err := r.Resume(); err != nil {
			t.Fatal(err)
		}
		for waiting := time.After(time.Minute); ; {
			var still []string
			for i, d := range r.Stats().Devices {
				if d.Chains == stats[i].Chains && d.Name != "balloon" { // which is idle
					still = append(still, d.Name)
				}
			}
			if len(still) == 0 {
				break
			}
			select {
			case <-waiting:
				t.Fatalf("round %d: after the pause these do not go on: %v", round, still)
			case <-time.After(time.Millisecond):
			}
		}
	}
	(<-accepted).Close()
	r.Finish()
}

// served is what the devices have done for the guest: a doorbell that was rung
// before a pause may wake one during it.
func served(s vmm.Stats) []vmm.DeviceStats {
	for i := range s.Devices {
		s.Devices[i].Wakeups = 0
	}
	return s.Devices
}

// BenchmarkStop is what it costs to have a machine stand still for nothing.
func BenchmarkStop(b *testing.B) {
	image := filepath.Join(b.TempDir(), "disk")
	if err := os.WriteFile(image, make([]byte, 1<<20), 0o644); err != nil {
		b.Fatal(err)
	}
	m := rawMachine(b, codeSpin, vmm.Config{Disks: []vmm.Disk{{Path: image}}, VsockCID: 5})
	if err := m.Start(); err != nil {
		b.Fatal(err)
	}
	b.Run("VCPUs", func(b *testing.B) {
		for b.Loop() {
			if err := m.WithVCPUsStopped(func() error { return nil }); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("Machine", func(b *testing.B) {
		for b.Loop() {
			if err := m.Pause(); err != nil {
				b.Fatal(err)
			}
			if err := m.Resume(); err != nil {
				b.Fatal(err)
			}
		}
	})
}
