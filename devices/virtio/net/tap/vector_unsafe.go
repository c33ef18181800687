package tap

import (
	"unsafe"

	"golang.org/x/sys/unix"

	"warder/devices/virtio/net"
)

// A vector is a frame as writev(2) wants it, used for one after the other so that
// nothing is allocated.
type vector struct {
	header [net.HeaderSize]byte
	pieces []unix.Iovec
}

// write writes f with its header to fd, a TAP, which takes a frame or does not.
func (v *vector) write(fd int, f *net.Frame) error {
	v.header = f.Header(0)
	v.pieces = v.pieces[:0]
	v.add(v.header[:])
	v.add(f.Head)
	for _, p := range f.Body {
		v.add(p)
	}
	for {
		// SAFETY: the pieces are on the heap, as v is, and point to memory that lives
		// as long as f is not released; the kernel keeps no pointer.
		_, _, errno := unix.Syscall(unix.SYS_WRITEV, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(v.pieces))), uintptr(len(v.pieces)))
		switch errno {
		case 0:
			return nil
		case unix.EINTR:
			continue
		}
		return errno
	}
}

func (v *vector) add(p []byte) {
	if len(p) == 0 {
		return
	}
	iov := unix.Iovec{Base: &p[0]}
	iov.SetLen(len(p))
	v.pieces = append(v.pieces, iov)
}
