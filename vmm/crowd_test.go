//go:build soak

package vmm_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"warder/internal/testguest"
	"warder/internal/testkvm"
	"warder/internal/testleak"
	"warder/vmm"
)

const (
	diskSize = 4 << 20
	rounds   = 8
)

// worker fills its disk over and over, reads back what it wrote and hashes that
// with a file of its share.
var worker = testguest.Register("worker", func(g *testguest.Guest) {
	g.Check(os.MkdirAll("/mnt/share", 0o755))
	g.Check(unix.Mount("share", "/mnt/share", "virtiofs", 0, ""))
	disk, err := os.OpenFile("/dev/vda", os.O_RDWR, 0)
	g.Check(err)
	sum := sha256.New()
	for i := range rounds {
		block := bytes.Repeat([]byte{byte(i)}, diskSize)
		_, err := disk.WriteAt(block, 0)
		g.Check(err)
		g.Check(disk.Sync())
		g.Check(unix.Fadvise(int(disk.Fd()), 0, 0, unix.FADV_DONTNEED))
		_, err = disk.ReadAt(block, 0)
		g.Check(err)
		sum.Write(block)
		name, err := os.ReadFile("/mnt/share/name")
		g.Check(err)
		sum.Write(name)
	}
	g.Report("sum", hex.EncodeToString(sum.Sum(nil)))
})

// work starts a worker whose share holds name, and gives what holds it to account.
func work(t *testing.T, name string) (finish func()) {
	dir := t.TempDir()
	disk := filepath.Join(dir, "disk")
	for path, data := range map[string][]byte{disk: make([]byte, diskSize), filepath.Join(dir, "name"): []byte(name)} {
		if err := os.WriteFile(path, data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	r := worker.Start(t, vmm.Config{
		Name: name, Memory: 192 << 20, VsockCID: 3,
		Disks: []vmm.Disk{{Path: disk}}, Shares: []vmm.Share{{Tag: "share", Dir: dir}},
	})
	return func() {
		want := sha256.New()
		for i := range rounds {
			want.Write(bytes.Repeat([]byte{byte(i)}, diskSize))
			want.Write([]byte(name))
		}
		if got := testguest.Get[string](r, "sum"); got != hex.EncodeToString(want.Sum(nil)) {
			t.Errorf("%s read something else than it wrote", name)
		}
		r.Finish()
	}
}

// TestCrowd has eight machines work at once, then some more one after the other,
// of which nothing must be left.
func TestCrowd(t *testing.T) {
	testkvm.Need(t)
	t.Run("at once", func(t *testing.T) {
		var crowd []func()
		for _, name := range []string{"a", "b", "c", "d", "e", "f", "g", "h"} {
			crowd = append(crowd, work(t, name))
		}
		for _, finish := range crowd {
			finish()
		}
	})
	before := testleak.Take(t)
	for _, name := range []string{"i", "j"} {
		t.Run(name, func(t *testing.T) { work(t, name)() })
	}
	before.Compare(t)
}
