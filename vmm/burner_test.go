//go:build soak

package vmm_test

import (
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"warder/internal/testguest"
	"warder/vmm"
)

// burner uses all that its machine has: every vCPU, nearly all memory, every
// place in the queues of its disk and its entropy device.
var burner = testguest.Register("burner", func(g *testguest.Guest) {
	var si unix.Sysinfo_t
	g.Check(unix.Sysinfo(&si))
	const keep, page = 24 << 20, 4096
	memory, err := unix.Mmap(-1, 0, int(uint64(si.Freeram)*uint64(si.Unit)-keep), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	g.Check(err)
	touch := func() {
		for i := 0; i < len(memory); i += page {
			memory[i]++
		}
	}
	touch() // the first time alone: beside all that follows it takes minutes
	go func() {
		for {
			touch()
		}
	}()
	disk, err := unix.Open("/dev/vda", unix.O_RDONLY|unix.O_DIRECT, 0)
	g.Check(err)
	for i := range 2 * diskQueue {
		buf, err := unix.Mmap(-1, 0, page, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
		g.Check(err)
		go func() {
			for {
				unix.Pread(disk, buf, int64(i*page))
			}
		}()
	}
	random, err := os.Open("/dev/hwrng")
	g.Check(err)
	go func() {
		for buf := make([]byte, page); ; {
			random.Read(buf)
		}
	}()
	g.Report("burns", nil)
	for range runtime.NumCPU() {
		go func() {
			for n := 0; ; n++ {
			}
		}()
	}
	select {}
})

// diskQueue is the size of a disk's queue.
const diskQueue = 128

// TestBurnerLeavesOthersTheirShare has a machine on each CPU count beside one that
// uses all it has and has a quarter of the weight, with that one stopped half of
// the time.
func TestBurnerLeavesOthersTheirShare(t *testing.T) {
	needGroups(t)
	disk := filepath.Join(t.TempDir(), "disk")
	if err := os.WriteFile(disk, make([]byte, 2<<20), 0o644); err != nil {
		t.Fatal(err)
	}
	// It starts first: a boot beside those takes minutes.
	b := burner.Start(t, vmm.Config{CPUs: runtime.NumCPU(), Memory: 160 << 20, CPUWeight: 100, Disks: []vmm.Disk{{Path: disk}}})
	b.Event("burns")
	var others []counter
	for range runtime.NumCPU() {
		others = append(others, count(t, "other", 400, 0))
	}
	var alone, beside uint64
	const turns, turn = 8, 500 * time.Millisecond
	// inATurn is what the others count in a turn, whose length the host's clock
	// tells: both halves of all turns are as long.
	inATurn := func() uint64 {
		before := total(others)
		time.Sleep(turn)
		return total(others) - before
	}
	for range turns {
		if err := b.Pause(); err != nil {
			t.Fatal(err)
		}
		alone += inATurn()
		if err := b.Resume(); err != nil {
			t.Fatal(err)
		}
		beside += inATurn()
	}
	stats := b.Stats()
	t.Logf("the others did %.2f of what they do alone; the burner: %+v", float64(beside)/float64(alone), stats.Devices)
	if beside < alone/2 {
		t.Errorf("the others did %.2f of what they do alone, want about 0.9", float64(beside)/float64(alone))
	}
	if used := stats.MemoryUsed; used < 128<<20 {
		t.Errorf("the burner uses %d MiB", used>>20)
	}
}
