package blk

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"syscall"
)

// File is a disk in a file of the host.
type File struct {
	*os.File
	size int64
}

// Size implements Disk.
func (f *File) Size() int64 { return f.size }

// OpenFile opens a raw image or a block device. It must be whole sectors.
func OpenFile(path string, readOnly bool) (*File, error) {
	// Without O_NONBLOCK a named pipe would be waited for; files and disks ignore it.
	flag := os.O_RDWR | syscall.O_NONBLOCK
	if readOnly {
		flag = os.O_RDONLY | syscall.O_NONBLOCK
	}
	f, err := os.OpenFile(path, flag, 0)
	switch {
	case errors.Is(err, fs.ErrPermission) && !readOnly:
		return nil, fmt.Errorf("disk: %w (for a disk that is only read, add :ro)", err)
	case errors.Is(err, syscall.EISDIR):
		return nil, fmt.Errorf("disk %s: %w", path, errDirectory)
	case err != nil:
		return nil, fmt.Errorf("disk: %w", err)
	}
	size, err := diskSize(f)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("disk %s: %w", path, err), f.Close())
	}
	return &File{f, size}, nil
}

var errDirectory = errors.New("is a directory; to give a guest a directory, share it")

// diskSize is the size in bytes of the image or device f.
func diskSize(f *os.File) (int64, error) {
	st, err := f.Stat()
	if err != nil {
		return 0, err
	}
	isDevice := st.Mode()&fs.ModeDevice != 0 && st.Mode()&fs.ModeCharDevice == 0
	switch {
	case st.IsDir():
		return 0, errDirectory
	case !st.Mode().IsRegular() && !isDevice:
		return 0, errors.New("is neither a file nor a block device")
	}
	// A block device's size is where its end is; its Stat says 0.
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return 0, err
	}
	switch {
	case size == 0:
		return 0, errors.New("is empty; make it as large as the disk: truncate -s 1G FILE")
	case size%SectorSize != 0:
		return 0, fmt.Errorf("has %d bytes, which is not whole sectors of %d; if it is a raw image: truncate -s %%%d FILE", size, SectorSize, SectorSize)
	}
	return size, nil
}
