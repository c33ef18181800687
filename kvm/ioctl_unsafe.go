package kvm

import (
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The encoding of an ioctl number (include/uapi/asm-generic/ioctl.h): the
// direction as user space sees it, the size of the argument, the type ("magic")
// and the number of the call. KVMIO is 0xAE.
const (
	sizeShift = 16

	none  = 0<<30 | uintptr(0xAE)<<8
	write = 1<<30 | uintptr(0xAE)<<8
	read  = 2<<30 | uintptr(0xAE)<<8
	both  = read | write
)

// request is one ioctl of the ABI.
type request struct {
	name string
	nr   uintptr
}

// call issues r with a plain integer as its argument and returns the result.
// See the package comment for why EINTR is retried.
func (r request) call(fd int, arg uintptr) (int, error) {
	for {
		n, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), r.nr, arg)
		switch errno {
		case 0:
			return int(n), nil
		case unix.EINTR:
		default:
			return 0, os.NewSyscallError(r.name, errno)
		}
	}
}

// do issues r with p as its argument and returns the result. T is the
// structure whose size r.nr encodes (or the head of it, where entries follow).
func do[T any](fd int, r request, p *T) (int, error) {
	for {
		// SAFETY: the conversion stands in the call's argument list, so p is
		// kept alive, and a stack cannot move while its goroutine is in a
		// system call. The kernel accesses the T that p points at, of the size
		// that r.nr holds; pointers inside a T are unsafe.Pointer fields, which
		// keep what they point at alive as well.
		n, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), r.nr, uintptr(unsafe.Pointer(p)))
		switch errno {
		case 0:
			return int(n), nil
		case unix.EINTR:
		default:
			return 0, os.NewSyscallError(r.name, errno)
		}
	}
}

// doList issues r on a structure that is a 64-bit head, whose low half is the
// number of entries, and the entries. They are copied in and out; count is what
// the kernel left in the head.
func doList[E any](fd int, r request, entries []E) (count uint32, n int, err error) {
	size := int(unsafe.Sizeof(*new(E)))
	buf := make([]uint64, 1+(size*len(entries)+7)/8)
	buf[0] = uint64(len(entries))
	var in []byte
	if len(entries) > 0 {
		// SAFETY: the bytes of the slice's own elements; E is plain data.
		in = unsafe.Slice((*byte)(unsafe.Pointer(&entries[0])), size*len(entries))
		// SAFETY: buf has room for the head and len(in) bytes, see make above.
		copy(unsafe.Slice((*byte)(unsafe.Pointer(&buf[1])), len(in)), in)
	}
	n, err = do(fd, r, &buf[0])
	if len(entries) > 0 {
		// SAFETY: as above.
		copy(in, unsafe.Slice((*byte)(unsafe.Pointer(&buf[1])), len(in)))
	}
	return uint32(buf[0]), n, err
}
