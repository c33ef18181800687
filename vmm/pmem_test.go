package vmm_test

import (
	"bytes"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"warder/devices/guestmem"
	"warder/internal/testguest"
	"warder/vmm"
)

// readsInPlace mounts a file system that is in memory, and maps a file of it.
var readsInPlace = testguest.Register("reads-in-place", func(g *testguest.Guest) {
	g.Check(os.MkdirAll("/tmp/root", 0o755))
	var mountErr error
	eventually(g, func() (bool, bool) {
		mountErr = unix.Mount("/dev/pmem0", "/tmp/root", "erofs", unix.MS_RDONLY, "dax=always")
		return true, mountErr == nil
	})
	b, err := os.ReadFile("/tmp/root/greeting")
	g.Check(err)
	g.Report("greeting", string(b))
	f, err := os.Open("/tmp/root/bin/three-pages")
	g.Check(err)
	p, err := unix.Mmap(int(f.Fd()), 0, 3*4096, unix.PROT_READ, unix.MAP_SHARED)
	g.Check(err)
	g.Report("pages", bytes.Equal(p, bytes.Repeat([]byte("x"), 3*4096)))
	g.Report("physical", physical(g, p))

	// What is written to it goes nowhere; on arm64 it ends the guest, as KVM does not
	// say what a store of a pair of registers would have written.
	raw, err := os.OpenFile("/dev/pmem0", os.O_WRONLY|unix.O_DIRECT|unix.O_SYNC, 0)
	if err == nil && runtime.GOARCH == "amd64" {
		page, err := unix.Mmap(-1, 0, 4096, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
		g.Check(err)
		_, _ = raw.WriteAt(page, 0)
	}
	g.Report("tried", nil)

	// The second can be written to.
	disk, err := os.OpenFile("/dev/pmem1", os.O_WRONLY, 0)
	g.Check(err)
	_, err = disk.WriteAt([]byte("from the guest"), 1<<20)
	g.Check(err)
	g.Check(disk.Sync())
	g.Report("synced", nil)
})

func TestFilesAsMemory(t *testing.T) {
	// Made by mkfs.erofs -T0 -U clear --all-root of a file greeting and a file
	// bin/three-pages, which is as long and holds x.
	const image = "testdata/greeting.erofs"
	before, err := os.ReadFile(image)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "writable")
	sparse(t, path, 2<<20)
	r := readsInPlace.Start(t, vmm.Config{Pmems: []vmm.Pmem{{Path: image}, {Path: path, Writable: true}}})
	// Another machine can have what is only read.
	other, err := vmm.New(vmm.Config{Kernel: rawKernelFile(t, codePowerOff), Memory: 64 << 20, Pmems: []vmm.Pmem{{Path: image}}})
	if err != nil {
		t.Errorf("a second machine with the same image: %v", err)
	} else if err := other.Close(); err != nil {
		t.Error(err)
	}
	if _, err := vmm.New(vmm.Config{Kernel: rawKernelFile(t, codePowerOff), Memory: 64 << 20, Pmems: []vmm.Pmem{{Path: path, Writable: true}}}); err == nil || !strings.Contains(err.Error(), "in use") {
		t.Errorf("a second machine that writes to the same file: %v", err)
	}

	if got := testguest.Get[string](r, "greeting"); got != "read in place\n" {
		t.Errorf("the file holds %q", got)
	}
	if !testguest.Get[bool](r, "pages") {
		t.Error("the mapped file is not what it should be")
	}
	// Mapped where it is: in no memory of the guest's own. Who inspects the guest
	// can read it.
	pa := guestmem.Addr(testguest.Get[uint64](r, "physical"))
	if err := r.Memory().Check(pa, 1); err == nil {
		t.Errorf("the mapped file is in RAM, at %#x", pa)
	}
	p := make([]byte, 4)
	if err := r.Memory().ReadAt(p, pa); err != nil || string(p) != "xxxx" {
		t.Errorf("at %#x the host reads %q (%v)", pa, p, err)
	}
	r.Event("tried")
	if after, err := os.ReadFile(image); err != nil || !bytes.Equal(before, after) {
		t.Errorf("a file that is only read was changed (%v)", err)
	}
	r.Event("synced")
	want := make([]byte, 2<<20)
	copy(want[1<<20:], "from the guest")
	if got, err := os.ReadFile(path); err != nil || !bytes.Equal(got, want) {
		t.Errorf("the file does not have what the guest wrote (%v)", err)
	}
	r.Finish()
	for _, d := range r.Stats().Devices {
		if d.Failures != 0 {
			t.Errorf("%s failed %d times", d.Name, d.Failures)
		}
	}
	devices := r.Stats().Devices
	if n := devices[len(devices)-1].Chains; n == 0 {
		t.Error("the guest made nothing durable")
	}
}
