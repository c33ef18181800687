package vmm_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"warder/devices/virtio/blk"
	"warder/internal/testguest"
	"warder/internal/testkvm"
	"warder/vmm"
)

// diskFound is what a guest finds out about its disk.
type diskFound struct {
	Serial, Cache, Discard, Zeroes, Physical string
	Queues                                   int
}

var managesDisk = testguest.Register("manages-disk", func(g *testguest.Guest) {
	attribute := func(name string) string {
		b, err := os.ReadFile("/sys/block/vda/" + name)
		g.Check(err)
		return strings.TrimSpace(string(b))
	}
	queues, err := os.ReadDir("/sys/block/vda/mq")
	g.Check(err)
	g.Report("disk", diskFound{
		attribute("serial"), attribute("cache_type"), attribute("queue/discard_max_bytes"),
		attribute("queue/write_zeroes_max_bytes"), attribute("queue/physical_block_size"), len(queues),
	})
	disk, err := os.OpenFile("/dev/vda", os.O_RDWR|unix.O_SYNC, 0)
	g.Check(err)
	_, err = disk.WriteAt(bytes.Repeat([]byte("old data"), 256<<10), 0)
	g.Check(err)
	g.Check(blockRange(disk, unix.BLKDISCARD, 0, 512<<10))
	g.Check(blockRange(disk, unix.BLKZEROOUT, 1<<20, 256<<10))
	g.Check(os.WriteFile("/sys/block/vda/cache_type", []byte("write through"), 0))
	g.Report("write through", attribute("cache_type"))
	_, err = disk.WriteAt(make([]byte, 4096), 0)
	g.Check(err)
})

func TestLinuxManagesItsDisk(t *testing.T) {
	image := filepath.Join(t.TempDir(), "disk")
	sparse(t, image, 4<<20)
	cpus := min(2, runtime.NumCPU())
	r := managesDisk.Start(t, vmm.Config{CPUs: cpus, Disks: []vmm.Disk{{Path: image, Serial: "SN 1"}}})
	want := diskFound{"SN 1", "write back", "1073741824", "67108864", "4096", cpus}
	if diff := cmp.Diff(want, testguest.Get[diskFound](r, "disk")); diff != "" {
		t.Error(diff)
	}
	if got := testguest.Get[string](r, "write through"); got != "write through" {
		t.Errorf("the cache's mode is %q", got)
	}
	r.Finish()
	s := r.Stats().Devices[0].Disk
	if s.Discarded != 512<<10 || s.Zeroed != 256<<10 || s.Flushes == 0 || s.Errors != (blk.Errors{}) {
		t.Errorf("statistics: %+v", *s)
	}
	content := bytes.Repeat([]byte("old data"), 256<<10)
	clear(content[:512<<10])
	clear(content[1<<20 : 1<<20+256<<10])
	got, err := os.ReadFile(image)
	if err != nil || !bytes.Equal(got[:len(content)], content) {
		t.Errorf("the image is not as the guest made it (%v)", err)
	}
	var st unix.Stat_t
	if err := unix.Stat(image, &st); err != nil || st.Blocks*512 > 2<<20-512<<10+4096 {
		t.Errorf("the image takes %d bytes after 512 KiB of its 2 MiB were discarded and 4 written again (%v)", st.Blocks*512, err)
	}
	// A second machine does not get a disk that is in use.
	if _, err := blk.OpenFile(image, false); err == nil {
		t.Error("the image could be opened twice to write")
	}
}

// sparse makes an image that takes no room yet.
func sparse(t *testing.T, path string, size int64) {
	if err := os.WriteFile(path, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(path, size); err != nil {
		t.Fatal(err)
	}
}

var fillsDisk = testguest.Register("fills-disk", func(g *testguest.Guest) {
	disk, err := os.OpenFile("/dev/vda", os.O_RDWR|unix.O_SYNC, 0)
	g.Check(err)
	block := make([]byte, 64<<10)
	binary.LittleEndian.PutUint64(block, 1)
	var off int64
	for ; err == nil && off < 8<<20; off += int64(len(block)) {
		_, err = disk.WriteAt(block, off)
	}
	g.Report("full", errors.Is(err, unix.EIO))
	_, err = disk.ReadAt(block, 0)
	g.Check(err)
})

// TestHostIsFull has an image in a file system that has no room for all of it.
func TestHostIsFull(t *testing.T) {
	dir := t.TempDir()
	if err := unix.Mount("small", dir, "tmpfs", 0, "size=2m"); err != nil {
		if errors.Is(err, unix.EPERM) {
			testkvm.Missing(t, "mounting a file system takes root")
		}
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	image := filepath.Join(dir, "disk")
	sparse(t, image, 8<<20)
	r := fillsDisk.Start(t, vmm.Config{Disks: []vmm.Disk{{Path: image}}})
	if !testguest.Get[bool](r, "full") {
		t.Error("the guest got no I/O error")
	}
	r.Finish()
	if e := r.Stats().Devices[0].Disk.Errors; e.NoSpace == 0 || e.IO+e.ReadOnly+e.Other != 0 {
		t.Errorf("counted as %+v", e)
	}
}
