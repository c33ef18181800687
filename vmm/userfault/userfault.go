// Package userfault reports the first write to protected pages of a mapping,
// whose writer it holds until it is let go.
//
// It is userfaultfd(2) in write-protect mode on a shared mapping of a memfd.
// A thread that writes to a protected page waits inside the kernel, in the
// write instruction or in KVM_RUN, until [Watch.Release]; then the write
// happens, by whatever instruction it was, without having been emulated.
// Writes through another mapping of the same memory are not seen.
//
// Kernels: 5.19 on amd64, 6.10 on arm64. KVM writes on a guest's behalf in
// kernel mode, so the caller needs CAP_SYS_PTRACE, or access to
// /dev/userfaultfd, or the sysctl vm.unprivileged_userfaultfd=1.
package userfault

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Support is what the kernel lets this user do.
type Support struct {
	Kernel       bool // handle faults of the kernel's own accesses, as KVM's are
	WriteProtect bool // of anonymous memory
	Shared       bool // write protection of shared memory too, which [New] needs
}

// Probe asks the kernel.
func Probe() (s Support) {
	fd, err := open()
	if err != nil {
		return s
	}
	defer unix.Close(fd)
	s.Kernel = true
	api := apiArg{API: apiVersion}
	if ioctl(fd, requestAPI, &api) != nil {
		return s
	}
	s.WriteProtect = api.Features&featureFlagWP != 0
	s.Shared = api.Features&featureShmem != 0
	return s
}

// A Watch is the protection of one mapping. Protect and Release may be called
// from any goroutine, Next from one; after Close they fail.
type Watch struct {
	mem  []byte
	base uintptr
	file *os.File
	raw  syscall.RawConn // of file: its descriptor is nobody else's while it is used
}

// New makes a watch for mem, which must be a shared mapping of a memfd that
// starts on a page boundary. Nothing is protected yet.
func New(mem []byte) (*Watch, error) {
	fd, err := open()
	if err != nil {
		return nil, err
	}
	w := &Watch{mem: mem, base: address(mem)}
	if err := w.register(fd); err != nil {
		return nil, errors.Join(err, unix.Close(fd))
	}
	// Only now: until the features are agreed on, poll reports an error, which
	// the runtime would take for good.
	w.file = os.NewFile(uintptr(fd), "userfaultfd")
	if w.raw, err = w.file.SyscallConn(); err != nil {
		return nil, errors.Join(fmt.Errorf("userfault: %w", err), w.Close())
	}
	return w, nil
}

// register agrees on the features and takes the mapping under watch.
func (w *Watch) register(fd int) error {
	// WP_HUGETLBFS_SHMEM lets shared memory be write-protected at all;
	// WP_UNPOPULATED (6.4) makes protection hold for pages never touched,
	// which shared memory does by itself.
	api := apiArg{API: apiVersion, Features: featureFlagWP | featureShmem}
	if err := ioctl(fd, requestAPI, &api); err != nil {
		return fmt.Errorf("userfault: this kernel can't write-protect shared memory (amd64 needs 5.19, arm64 6.10): %w", err)
	}
	reg := registerArg{Range: rangeArg{uint64(w.base), uint64(len(w.mem))}, Mode: registerWP}
	if err := ioctl(fd, requestRegister, &reg); err != nil {
		return fmt.Errorf("userfault: register: %w", err)
	}
	return nil
}

// Protect makes the next write to the pages of mem[off:off+n] wait. Both must
// be multiples of the page size.
func (w *Watch) Protect(off, n uint64) error { return w.writeProtect(off, n, protectOn) }

// Release takes the protection from the pages of mem[off:off+n] and lets who
// waits for them write.
func (w *Watch) Release(off, n uint64) error { return w.writeProtect(off, n, 0) }

func (w *Watch) writeProtect(off, n, mode uint64) error {
	if size := uint64(len(w.mem)); off > size || n > size-off {
		return fmt.Errorf("userfault: range %#x+%#x is outside the mapping of %#x bytes", off, n, size)
	}
	var err error
	closed := w.raw.Control(func(fd uintptr) {
		// The kernel asks to try again while the mapping is being changed.
		for err = unix.EAGAIN; errors.Is(err, unix.EAGAIN); {
			arg := protectArg{Range: rangeArg{uint64(w.base) + off, n}, Mode: mode}
			err = ioctl(int(fd), requestWriteProtect, &arg)
		}
	})
	if err = cmp.Or(closed, err); err != nil {
		return fmt.Errorf("userfault: protect: %w", err)
	}
	return nil
}

// Next waits for the next write to a protected page and gives the offset of
// that page in the mapping. The writer waits until Release.
func (w *Watch) Next(ctx context.Context) (uint64, error) {
	stop := context.AfterFunc(ctx, func() { w.file.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	var msg [messageSize]byte
	for {
		if _, err := w.file.Read(msg[:]); err != nil {
			if ctx.Err() != nil {
				return 0, ctx.Err()
			}
			return 0, fmt.Errorf("userfault: %w", err)
		}
		flags := binary.NativeEndian.Uint64(msg[8:])
		if msg[0] != eventPagefault || flags&pagefaultWP == 0 {
			continue
		}
		addr := uintptr(binary.NativeEndian.Uint64(msg[16:]))
		return uint64(addr-w.base) &^ uint64(os.Getpagesize()-1), nil
	}
}

// Close ends the watch. Who waits for a page is let go.
func (w *Watch) Close() error { return w.file.Close() }
