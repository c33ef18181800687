package kvm_test

import (
	"encoding/binary"
	"errors"
	"os"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"warder/internal/testkvm"
	"warder/kvm"
)

// page is a page of mapped memory.
func page(t testing.TB) []byte { return pages(t, 1) }

func pages(t testing.TB, n int) []byte {
	t.Helper()
	m, err := unix.Mmap(-1, 0, n*os.Getpagesize(), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_ANONYMOUS)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Munmap(m); err != nil {
			t.Error(err)
		}
	})
	return m
}

func eventfd(t testing.TB) int {
	t.Helper()
	fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Close(fd); err != nil {
			t.Error(err)
		}
	})
	return fd
}

func signal(t testing.TB, fd int) {
	t.Helper()
	if _, err := unix.Write(fd, binary.NativeEndian.AppendUint64(nil, 1)); err != nil {
		t.Fatal(err)
	}
}

// eventually waits for what the kernel does in a worker thread of its own.
func eventually(t testing.TB, what string, holds func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); !holds(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("after 10 s still not: %s", what)
		}
	}
}

// count is how often an eventfd was signalled since the last call.
func count(t testing.TB, fd int) uint64 {
	t.Helper()
	var b [8]byte
	switch _, err := unix.Read(fd, b[:]); {
	case errors.Is(err, unix.EAGAIN):
		return 0
	case err != nil:
		t.Fatal(err)
	}
	return binary.NativeEndian.Uint64(b[:])
}

// an mmioStep is an access that a guest is to make to what is no memory, and the
// answer to a read.
type mmioStep struct {
	want   kvm.MMIO
	answer []byte
}

// accesses runs the guest through its next accesses.
func accesses(t *testing.T, g *testkvm.Guest, steps []mmioStep) {
	t.Helper()
	for _, step := range steps {
		m := g.Run(t, kvm.ExitMMIO).MMIO()
		if step.answer != nil {
			if len(m.Data) != len(step.answer) {
				t.Fatalf("%#x: room for %d bytes, want %d", m.Addr, len(m.Data), len(step.answer))
			}
			copy(m.Data, step.answer)
			m.Data = nil
		}
		if d := cmp.Diff(step.want, m); d != "" {
			t.Fatalf("access (-want +got):\n%s", d)
		}
	}
}
