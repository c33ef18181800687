//go:build soak

package vmm_test

import (
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/mdlayher/vsock"
	"golang.org/x/sys/unix"

	"warder/internal/testguest"
	"warder/vmm"
)

// A subject is a device whose driver comes and goes.
type subject struct {
	id     string // as virtio numbers kinds of devices
	module string // "" where the kernel has the driver inside
	// use uses the device once, or says that it can't.
	use func(device string) error
}

var subjects = []subject{
	{"0x0002", "virtio_blk", func(device string) error {
		names, err := os.ReadDir(filepath.Join(device, "block"))
		if err != nil || len(names) == 0 {
			return errors.Join(err, errors.New("no disk"))
		}
		return readOnce(filepath.Join("/dev", names[0].Name()), 4096)
	}},
	{"0x0004", "virtio_rng", func(string) error { return readOnce("/dev/hwrng", 16) }},
	{"0x0013", "vmw_vsock_virtio_transport", func(string) error {
		c, err := vsock.Dial(vsock.Host, 7000, nil)
		if err != nil {
			return err
		}
		defer c.Close()
		if _, err := io.WriteString(c, strings.Repeat("x", 10000)); err != nil {
			return err
		}
		if err := c.CloseWrite(); err != nil {
			return err
		}
		_, err = io.ReadAll(c)
		return err
	}},
	{"0x001a", "", func(string) error {
		dir, err := os.MkdirTemp("/tmp", "share")
		if err != nil {
			return err
		}
		if err := unix.Mount("files", dir, "virtiofs", 0, ""); err != nil {
			return err
		}
		_, err = os.ReadFile(filepath.Join(dir, "file"))
		return errors.Join(err, unix.Unmount(dir, unix.MNT_DETACH))
	}},
	{"0x0003", "", func(string) error {
		ttys, err := filepath.Glob("/dev/hvc*")
		for _, path := range ttys {
			tty, openErr := os.OpenFile(path, os.O_WRONLY|unix.O_NOCTTY, 0)
			if openErr != nil {
				continue // a number that no console has
			}
			defer tty.Close()
			if _, err = tty.WriteString("printed\n"); err == nil {
				return nil
			}
		}
		return errors.Join(err, errors.New("no console"))
	}},
}

func readOnce(path string, n int) error {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	// Of a disk the page cache is not to answer.
	_ = unix.Fadvise(fd, 0, 0, unix.FADV_DONTNEED)
	_, err = unix.Read(fd, make([]byte, n))
	return err
}

// load uses the device by several goroutines until stop is called; that some of it
// fails while there is no driver is as it should be.
func (s subject) load(device string) (stop func()) {
	done := make(chan struct{})
	var work sync.WaitGroup
	for range 3 {
		work.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
					_ = s.use(device)
				}
			}
		})
	}
	return func() { close(done); work.Wait() }
}

// rebinds is how often each device loses its driver.
const rebinds = 5

var losesDrivers = testguest.Register("loses-drivers", func(g *testguest.Guest) {
	for _, s := range subjects {
		device := deviceOf(g, s.id)
		driver, err := filepath.EvalSymlinks(filepath.Join(device, "driver"))
		g.Check(err)
		works := func() {
			var last error
			eventually(g, func() (bool, bool) { last = s.use(device); return true, last == nil })
		}
		works()
		for range rebinds {
			stop := s.load(device)
			rebindDriver(g, driver, device)
			works()
			stop()
		}
		if _, err := modulePath(s.module); err == nil {
			stop := s.load(device)
			works()
			stop()
			unload(g, s.module)
			load(g, s.module)
			works()
		}
		g.Report("survived", s.id)
	}
})

// TestDriversComeAndGo takes the driver away from each kind of device while it is at
// work, and gives it back; where it is a module, that is unloaded too.
func TestDriversComeAndGo(t *testing.T) {
	dir := t.TempDir()
	image, share := filepath.Join(dir, "disk"), filepath.Join(dir, "share")
	sparse(t, image, 1<<20)
	if err := os.Mkdir(share, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(share, "file"), make([]byte, 100<<10), 0o644); err != nil {
		t.Fatal(err)
	}
	keyboard, _ := net.Pipe() // at which nobody types
	defer keyboard.Close()
	r := losesDrivers.Start(t, vmm.Config{
		Disks: []vmm.Disk{{Path: image}}, Shares: []vmm.Share{{Tag: "files", Dir: share}},
		VsockCID: 5, Console: vmm.Stream{In: keyboard, Out: io.Discard},
	})
	l, err := r.Vsock().Listen(7000)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func(c net.Conn) {
				defer c.Close()
				_, _ = io.Copy(c, c)
			}(c)
		}
	}()
	for _, s := range subjects {
		if got := testguest.Get[string](r, "survived"); got != s.id {
			t.Errorf("survived %s, want %s", got, s.id)
		}
	}
	r.Finish()
	for _, d := range r.Stats().Devices {
		if d.Failures != 0 {
			t.Errorf("%s needed a reset %d times", d.Name, d.Failures)
		}
		if d.Name != "balloon" && d.Resets < rebinds {
			t.Errorf("%s was reset %d times only", d.Name, d.Resets)
		}
	}
}
