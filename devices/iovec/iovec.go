// Package iovec moves bytes between a file and several buffers by one system call, as
// readv(2) says. Unlike golang.org/x/sys/unix it allocates nothing for that: a guest's
// request of a megabyte is 256 pages, of which the list alone would be 8 KiB of garbage.
package iovec

import (
	"sync"

	"golang.org/x/sys/unix"
)

// A Vector is a list of buffers for one system call after another. Its zero value is an
// empty one.
type Vector struct{ pieces []unix.Iovec }

// Reset empties v, which lets go of its buffers.
func (v *Vector) Reset() {
	clear(v.pieces)
	v.pieces = v.pieces[:0]
}

// Add appends a buffer, unless it is empty. The kernel takes up to 1024 (IOV_MAX).
func (v *Vector) Add(p []byte) {
	if len(p) == 0 {
		return
	}
	iov := unix.Iovec{Base: &p[0]}
	iov.SetLen(len(p))
	v.pieces = append(v.pieces, iov)
}

// spare are vectors that nobody uses.
var spare = sync.Pool{New: func() any { return new(Vector) }}

// ReadAt fills bufs from offset off of fd by preadv(2). It returns how many bytes came,
// 0 at the end of the file, and the kernel's error, of which EINTR says to try again.
func ReadAt(fd int, bufs [][]byte, off int64) (int, error) {
	return with(bufs, len(bufs), func(v *Vector) (int, error) { return v.at(unix.SYS_PREADV, fd, off, 0) })
}

// atOnce is how many buffers one WriteAt takes. For each page that it copies to its page
// cache Linux may look at all that is left of the call's buffers first
// (fault_in_iov_iter_readable in generic_perform_write, of 6.12), which for 256 pages takes
// longer than to copy them; for sixteen it takes little, as the call itself does.
const atOnce = 16

// WriteAt writes bufs to offset off of fd by pwritev2(2) with its flags. It returns how many
// bytes were taken, which may be fewer than there are, and the kernel's error, of which
// EINTR says to try again.
func WriteAt(fd int, bufs [][]byte, off int64, flags int) (int, error) {
	return with(bufs, atOnce, func(v *Vector) (int, error) { return v.at(unix.SYS_PWRITEV2, fd, off, flags) })
}

// with calls f with up to n of bufs, not counting empty ones.
func with(bufs [][]byte, n int, f func(v *Vector) (int, error)) (int, error) {
	v := spare.Get().(*Vector)
	defer spare.Put(v)
	defer v.Reset()
	for _, p := range bufs {
		if len(v.pieces) == n {
			break
		}
		v.Add(p)
	}
	return f(v)
}
