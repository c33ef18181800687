package blk

import (
	"errors"
	"io"

	"golang.org/x/sys/unix"

	"warder/devices/iovec"
	"warder/devices/virtio/virtq"
)

// ReadVectorAt implements virtq.VectorReaderAt.
func (f *File) ReadVectorAt(bufs [][]byte, off int64) (n int, err error) {
	err = f.control(func(fd int) error {
		n, err = again(func() (int, error) { return iovec.ReadAt(fd, bufs, off) })
		return err
	})
	if n == 0 && err == nil {
		err = io.EOF
	}
	return max(n, 0), err
}

// WriteVectorAt implements virtq.VectorWriterAt.
func (f *File) WriteVectorAt(bufs [][]byte, off int64) (n int, err error) {
	err = f.control(func(fd int) error {
		n, err = again(func() (int, error) { return iovec.WriteAt(fd, bufs, off, 0) })
		return err
	})
	return max(n, 0), err
}

func again(f func() (int, error)) (int, error) {
	for {
		if n, err := f(); err != unix.EINTR {
			return n, err
		}
	}
}

// Discard implements Discarder: it makes a hole. Of a block device the kernel
// discards the bytes if they then read as zeros.
func (f *File) Discard(off, n int64) error {
	return f.fallocate(unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, off, n)
}

// Zero implements Discarder.
func (f *File) Zero(off, n int64, unmap bool) error {
	if unmap {
		if err := f.Discard(off, n); !errors.Is(err, errors.ErrUnsupported) {
			return err
		}
	}
	return f.fallocate(unix.FALLOC_FL_ZERO_RANGE|unix.FALLOC_FL_KEEP_SIZE, off, n)
}

func (f *File) fallocate(mode uint32, off, n int64) error {
	if n == 0 {
		return nil // which the kernel refuses
	}
	return f.control(func(fd int) error {
		_, err := again(func() (int, error) { return 0, unix.Fallocate(fd, mode, off, n) })
		return err
	})
}

var (
	_ Disk                 = (*File)(nil)
	_ Syncer               = (*File)(nil)
	_ Discarder            = (*File)(nil)
	_ Blocked              = (*File)(nil)
	_ virtq.VectorReaderAt = (*File)(nil)
	_ virtq.VectorWriterAt = (*File)(nil)
)
