package testleak

import (
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TestBeyond leaves one of each behind.
func TestBeyond(t *testing.T) {
	before := Take(t)
	if left := Take(t).beyond(before); len(left) != 0 {
		t.Errorf("nothing was left: %q", left)
	}
	f, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	fd, err := unix.MemfdCreate("testleak-123", unix.MFD_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if err := unix.Ftruncate(fd, 1<<20); err != nil {
		t.Fatal(err)
	}
	mapping, err := unix.Mmap(fd, 0, 1<<20, unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Munmap(mapping)
	anonymous, err := unix.Mmap(-1, 0, 1<<30, unix.PROT_READ, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS|unix.MAP_NORESERVE)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Munmap(anonymous)
	stop := make(chan struct{})
	defer close(stop)
	started := make(chan struct{})
	for range 2 {
		go leftBehind(started, stop)
		<-started
	}
	now := Take(t)
	now.threads += spareThreads + 1
	all := strings.Join(now.beyond(before), "\n")
	for _, want := range []string{
		"1 more: descriptor of /dev/null", "1 more: descriptor of /memfd:testleak-N", "1 more: mapping of /memfd:testleak-N",
		"more: goroutine at", "leftBehind", "more of address space", "more threads",
	} {
		if !strings.Contains(all, want) {
			t.Errorf("%q is not said:\n%s", want, all)
		}
	}
}

func leftBehind(started chan<- struct{}, stop <-chan struct{}) {
	started <- struct{}{}
	<-stop
}
