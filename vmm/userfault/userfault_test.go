package userfault_test

import (
	"errors"
	"os"
	"testing"

	"golang.org/x/sys/unix"

	"warder/internal/testkvm"
	"warder/vmm/userfault"
)

// mapping is n pages of shared memory, mapped twice: the second mapping is not
// under any watch.
func mapping(t *testing.T, pages int) (mem, alias []byte) {
	t.Helper()
	fd, err := unix.MemfdCreate("userfault-test", unix.MFD_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	size := pages * os.Getpagesize()
	if err := unix.Ftruncate(fd, int64(size)); err != nil {
		t.Fatal(err)
	}
	var maps [2][]byte
	for i := range maps {
		if maps[i], err = unix.Mmap(fd, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { unix.Munmap(maps[i]) })
	}
	return maps[0], maps[1]
}

// write stores v at mem[off] from inside a system call, as KVM does: a
// goroutine that faulted in its own code could not be stopped for a garbage
// collection.
func write(t *testing.T, mem []byte, off int, v byte) <-chan error {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write([]byte{v}); err != nil {
		t.Fatal(err)
	}
	w.Close()
	done := make(chan error, 1)
	fd := int(r.Fd())
	go func() {
		_, err := unix.Read(fd, mem[off:off+1])
		r.Close()
		done <- err
	}()
	return done
}

// watch is a watch of mem, where this user may have one.
func watch(t *testing.T, mem []byte) *userfault.Watch {
	t.Helper()
	w, err := userfault.New(mem)
	if s := userfault.Probe(); s.Shared != (err == nil) {
		t.Errorf("a probe says %+v, and New: %v", s, err)
	}
	if errors.Is(err, unix.EPERM) || errors.Is(err, unix.EINVAL) {
		testkvm.Missing(t, err.Error())
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.Close() })
	return w
}

func TestWriterWaitsForRelease(t *testing.T) {
	mem, alias := mapping(t, 4)
	w := watch(t, mem)
	page := uint64(os.Getpagesize())
	if err := w.Protect(page, page); err != nil {
		t.Fatal(err)
	}

	// Unprotected neighbours are free.
	for _, off := range []uint64{0, 2 * page} {
		if err := <-write(t, mem, int(off), 1); err != nil {
			t.Fatalf("write at %#x: %v", off, err)
		}
	}

	done := write(t, mem, int(page)+5, 42)
	off, err := w.Next(t.Context())
	if err != nil || off != page {
		t.Fatalf("Next gave %#x, %v; want page %#x", off, err, page)
	}
	select {
	case err := <-done:
		t.Fatalf("the writer did not wait (%v)", err)
	default:
	}
	if got := alias[page+5]; got != 0 {
		t.Fatalf("the write was visible before its release: %d", got)
	}
	if err := w.Release(page, page); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if got := alias[page+5]; got != 42 {
		t.Errorf("after the release the byte is %d, want 42", got)
	}
}

func TestRangeOutsideMapping(t *testing.T) {
	mem, _ := mapping(t, 2)
	w := watch(t, mem)
	size := uint64(len(mem))
	for _, r := range [][2]uint64{{size, 1}, {0, size + 1}, {^uint64(0), 2}, {size / 2, ^uint64(0)}} {
		if err := w.Protect(r[0], r[1]); err == nil {
			t.Errorf("range %#x+%#x was accepted", r[0], r[1])
		}
	}
}
