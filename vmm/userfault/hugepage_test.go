package userfault_test

import (
	"os"
	"testing"

	"golang.org/x/sys/unix"

	"warder/devices/guestmem"
)

// TestHugePage protects one page of 4 KiB inside a huge one, which holds the
// kernel of a guest.
func TestHugePage(t *testing.T) {
	m, err := guestmem.Allocate("userfault-test", guestmem.Range{Size: 2 * guestmem.HugePage})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	mem, err := guestmem.Map(m.FD(), 0, 2*guestmem.HugePage)
	if err != nil {
		t.Fatal(err)
	}
	defer guestmem.Unmap(mem)
	page := os.Getpagesize()
	if err := unix.Madvise(mem[:page], unix.MADV_POPULATE_WRITE); err != nil {
		t.Fatal(err)
	}
	if err := unix.Madvise(mem[:guestmem.HugePage], unix.MADV_COLLAPSE); err != nil {
		t.Logf("the host has no huge page to give: %v", err) // then it holds for small ones
	}
	mem[3*page] = 1
	w := watch(t, mem)
	if err := w.Protect(uint64(3*page), uint64(page)); err != nil {
		t.Fatal(err)
	}
	if err := <-write(t, mem, 2*page, 2); err != nil { // a free neighbour
		t.Fatal(err)
	}
	written := write(t, mem, 3*page+1, 3)
	off, err := w.Next(t.Context())
	if err != nil || off != uint64(3*page) {
		t.Fatalf("a write at %#x, %v", off, err)
	}
	if mem[3*page] != 1 || mem[3*page+1] != 0 {
		t.Error("the write was there before it was let go")
	}
	if err := w.Release(off, uint64(page)); err != nil {
		t.Fatal(err)
	}
	if err := <-written; err != nil || mem[3*page+1] != 3 || mem[3*page] != 1 || mem[2*page] != 2 {
		t.Errorf("%v: the bytes are %d, %d and %d", err, mem[2*page], mem[3*page], mem[3*page+1])
	}
}
