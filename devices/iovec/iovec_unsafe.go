package iovec

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// Write writes v to fd by writev(2). It returns how many bytes were taken, and the kernel's
// error, of which EINTR says to try again.
func (v *Vector) Write(fd int) (int, error) {
	// SAFETY: the pieces are on the heap, which does not move, and keep what they point to;
	// the kernel keeps no pointer.
	n, _, errno := unix.Syscall(unix.SYS_WRITEV, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(v.pieces))), uintptr(len(v.pieces)))
	if errno != 0 {
		return 0, errno
	}
	return int(n), nil
}

// at makes a call of the form of pwritev2(2), whose offset is in two halves of which the
// first holds it on machines of 64 bits.
func (v *Vector) at(call uintptr, fd int, off int64, flags int) (int, error) {
	// SAFETY: as in Write.
	n, _, errno := unix.Syscall6(call, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(v.pieces))), uintptr(len(v.pieces)), uintptr(off), 0, uintptr(flags))
	if errno != 0 {
		return 0, errno
	}
	return int(n), nil
}
