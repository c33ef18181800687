package blk

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"
)

// File is a disk in a file of the host.
type File struct {
	*os.File
	size  int64
	block int
}

// Size implements Disk.
func (f *File) Size() int64 { return f.size }

// BlockSize implements Blocked.
func (f *File) BlockSize() int { return f.block }

// OpenFile opens a raw image or a block device. It must be whole sectors. While
// it is open nobody else can open it to write, by this function or another that
// asks for locks; nor, when it is opened to write, to read.
func OpenFile(path string, readOnly bool) (*File, error) {
	// Without O_NONBLOCK a named pipe would be waited for; files and disks ignore it.
	flag := os.O_RDWR | unix.O_NONBLOCK
	if readOnly {
		flag = os.O_RDONLY | unix.O_NONBLOCK
	} else if st, err := os.Stat(path); err == nil && isBlockDevice(st) {
		// open(2): "if the block device is in use by the system (e.g., mounted),
		// open() fails with the error EBUSY".
		flag |= unix.O_EXCL
	}
	file, err := os.OpenFile(path, flag, 0)
	switch {
	case errors.Is(err, fs.ErrPermission) && !readOnly:
		return nil, fmt.Errorf("disk: %w (for a disk that is only read, add :ro)", err)
	case errors.Is(err, unix.EISDIR):
		return nil, fmt.Errorf("disk %s: %w", path, errDirectory)
	case errors.Is(err, unix.EBUSY):
		return nil, fmt.Errorf("disk %s: the device is mounted or in use on the host: %w", path, err)
	case err != nil:
		return nil, fmt.Errorf("disk: %w", err)
	}
	f := &File{File: file}
	if err := f.examine(); err != nil {
		return nil, errors.Join(fmt.Errorf("disk %s: %w", path, err), file.Close())
	}
	if err := f.lock(readOnly); err != nil {
		return nil, errors.Join(fmt.Errorf("disk %s: %w", path, err), file.Close())
	}
	return f, nil
}

var errDirectory = errors.New("is a directory; to give a guest a directory, share it")

func isBlockDevice(st fs.FileInfo) bool {
	return st.Mode()&fs.ModeDevice != 0 && st.Mode()&fs.ModeCharDevice == 0
}

// examine finds out the size of the image or device, in bytes.
func (f *File) examine() error {
	st, err := f.Stat()
	if err != nil {
		return err
	}
	switch {
	case st.IsDir():
		return errDirectory
	case !st.Mode().IsRegular() && !isBlockDevice(st):
		return errors.New("is neither a file nor a block device")
	}
	// A block device's size is where its end is; its Stat says 0.
	f.size, err = f.Seek(0, io.SeekEnd)
	if err != nil {
		return err
	}
	switch {
	case f.size == 0:
		return errors.New("is empty; make it as large as the disk: truncate -s 1G FILE")
	case f.size%SectorSize != 0:
		return fmt.Errorf("has %d bytes, which is not whole sectors of %d; if it is a raw image: truncate -s %%%d FILE", f.size, SectorSize, SectorSize)
	}
	return f.control(func(fd int) error {
		if isBlockDevice(st) {
			f.block, err = unix.IoctlGetInt(fd, unix.BLKPBSZGET)
			return err
		}
		var s unix.Stat_t
		err := unix.Fstat(fd, &s)
		f.block = int(s.Blksize)
		return err
	})
}

// lock keeps others off, by a lock that belongs to this open file and not to the
// process, which may open it again for another machine.
func (f *File) lock(readOnly bool) error {
	kind, advice := int16(unix.F_WRLCK), "stop that, or give it to all of them with :ro"
	if readOnly {
		kind, advice = unix.F_RDLCK, "stop that, or give it :ro there too"
	}
	err := f.control(func(fd int) error {
		return unix.FcntlFlock(uintptr(fd), unix.F_OFD_SETLK, &unix.Flock_t{Type: kind, Whence: io.SeekStart})
	})
	switch {
	case errors.Is(err, unix.EAGAIN), errors.Is(err, unix.EACCES):
		return fmt.Errorf("is in use by another machine or program: %s", advice)
	case errors.Is(err, unix.EINVAL), errors.Is(err, unix.ENOLCK), errors.Is(err, errors.ErrUnsupported):
		return nil // a file system without locks
	}
	return err
}

// control runs f with the descriptor.
func (f *File) control(do func(fd int) error) error {
	raw, err := f.SyscallConn()
	if err != nil {
		return err
	}
	if closed := raw.Control(func(fd uintptr) { err = do(int(fd)) }); closed != nil {
		return closed
	}
	return err
}
