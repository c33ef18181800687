package rootfs

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"

	"golang.org/x/sys/unix"

	"warder/supervisor/declaration"
	"warder/supervisor/rootfs/diskimage"
)

// ofDisk gives the image of a disk, which is used where it is.
func (s *Store) ofDisk(i declaration.Image) (*Lease, error) {
	partition := 0
	if i.Tag != "" {
		var err error
		if partition, err = strconv.Atoi(i.Tag); err != nil {
			return nil, err
		}
	}
	// Without O_NONBLOCK a named pipe would be waited for.
	f, err := os.OpenFile(i.Name, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	root, err := findRoot(f, partition, s.arch)
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return &Lease{Image{Arch: s.arch, Path: i.Name, Size: root.Size, FileSystem: root.FileSystem, Offset: root.Offset}, f}, nil
}

func findRoot(f *os.File, partition int, arch string) (root diskimage.Root, err error) {
	st, err := f.Stat()
	if err != nil {
		return root, err
	}
	if !st.Mode().IsRegular() && st.Mode()&(os.ModeDevice|os.ModeCharDevice) != os.ModeDevice {
		return root, errors.New("it is neither a file nor a block device")
	}
	size, err := f.Seek(0, io.SeekEnd) // a device's size is where its end is
	if err != nil {
		return root, err
	}
	switch err := ofdLock(f, unix.F_RDLCK, 0, 0); {
	case errors.Is(err, errLocked):
		return root, errors.New("a machine or a program has it, to write to it: stop that first")
	case err != nil:
		return root, err
	}
	if root, err = diskimage.Find(f, size, partition, arch); err != nil {
		return root, err
	}
	const sector = 512
	if root.Offset == 0 && root.Size%sector != 0 {
		return root, fmt.Errorf("it has %d bytes, which is not whole sectors: truncate -s %%%d %s", size, sector, f.Name())
	}
	return root, nil
}
