package fs

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"

	"golang.org/x/sys/unix"

	"warder/devices/iovec"
)

// beneath keeps openat2 inside the directory that it starts from, openat2(2).
const beneath = unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS | unix.RESOLVE_NO_XDEV

// setID are the mode bits that make a program run as somebody else.
const setID = unix.S_ISUID | unix.S_ISGID

// root is the directory on the host, with what it takes to open files in it.
type root struct {
	fd   int // the directory itself, O_PATH
	proc int // /proc/self/fd, O_PATH: a pinned file is opened through its name there
}

func openRoot(dir string) (*root, error) {
	fd, err := openat2(unix.AT_FDCWD, dir, &unix.OpenHow{Flags: unix.O_PATH | unix.O_DIRECTORY | unix.O_CLOEXEC})
	if errors.Is(err, unix.ENOSYS) {
		return nil, fmt.Errorf("shared directory %s: the host's kernel has no openat2, which keeps guests inside it: use Linux 5.6 or later", dir)
	}
	if err != nil {
		return nil, fmt.Errorf("shared directory: %w", &os.PathError{Op: "open", Path: dir, Err: err})
	}
	const procPath = "/proc/self/fd"
	proc, err := openat2(unix.AT_FDCWD, procPath, &unix.OpenHow{Flags: unix.O_PATH | unix.O_DIRECTORY | unix.O_CLOEXEC})
	var st unix.Statfs_t
	if err == nil {
		err = unix.Fstatfs(proc, &st)
	}
	if err == nil && st.Type != unix.PROC_SUPER_MAGIC {
		err = errors.New("not a proc file system")
	}
	if err != nil {
		unix.Close(fd)
		if proc >= 0 {
			unix.Close(proc)
		}
		return nil, fmt.Errorf("shared directory %s: %s is needed to open files in it, mount /proc: %w", dir, procPath, err)
	}
	return &root{fd: fd, proc: proc}, nil
}

func (r *root) close() error {
	return errors.Join(unix.Close(r.fd), unix.Close(r.proc))
}

func openat2(dir int, path string, how *unix.OpenHow) (int, error) {
	for {
		fd, err := unix.Openat2(dir, path, how)
		if err != unix.EINTR {
			return fd, err
		}
	}
}

// openBeneath opens one entry of a pinned directory. The last component is not
// followed when it is a link: it is opened as such with O_PATH, and refused without.
func openBeneath(dir int, name string, flags int, mode uint32) (int, error) {
	return openat2(dir, name, &unix.OpenHow{
		Flags:   uint64(flags | unix.O_NOFOLLOW | unix.O_CLOEXEC),
		Mode:    uint64(mode),
		Resolve: beneath,
	})
}

// pin returns an O_PATH descriptor of an entry of a pinned directory.
func pin(dir int, name string) (int, error) {
	return openBeneath(dir, name, unix.O_PATH, 0)
}

// reopen opens the very file that fd refers to, which must be known to be a regular
// one: opening others can block, or reach a driver.
func (r *root) reopen(fd, flags int) (int, error) {
	for {
		// O_NOFOLLOW would refuse the name in /proc, whose target is the file by
		// itself and not by a path.
		got, err := unix.Openat(r.proc, strconv.Itoa(fd), flags|unix.O_CLOEXEC|unix.O_NOCTTY|unix.O_NONBLOCK, 0)
		if err != unix.EINTR {
			return got, err
		}
	}
}

// chmod changes the mode of the file that fd refers to; fchmod takes no O_PATH.
func (r *root) chmod(fd int, mode uint32) error {
	return unix.Fchmodat(r.proc, strconv.Itoa(fd), mode, 0)
}

// utimes sets the times of the file that fd refers to.
func (r *root) utimes(fd int, times []unix.Timespec) error {
	return unix.UtimesNanoAt(r.proc, strconv.Itoa(fd), times, 0)
}

// link gives the file that fd refers to another name.
func (r *root) link(fd, dir int, name string) error {
	return unix.Linkat(r.proc, strconv.Itoa(fd), dir, name, unix.AT_SYMLINK_FOLLOW)
}

// dropSetID takes the set-ID bits from a regular file whose content is about to be
// changed. The kernel does that by itself only for unprivileged processes.
func (r *root) dropSetID(fd int) error {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return err
	}
	if st.Mode&setID == 0 {
		return nil
	}
	return r.chmod(fd, st.Mode&0o7777&^setID)
}

// file is an open regular file as an io.ReaderAt and io.WriterAt.
type file struct {
	fd    int
	flags int // of pwritev2
}

func (f file) ReadAt(p []byte, off int64) (int, error) { return all(p, off, f.ReadVectorAt) }

func (f file) WriteAt(p []byte, off int64) (int, error) { return all(p, off, f.WriteVectorAt) }

// ReadVectorAt implements virtq.VectorReaderAt: a guest's buffers are pages, of which
// each would be a system call.
func (f file) ReadVectorAt(bufs [][]byte, off int64) (int, error) {
	return some(io.EOF, func() (int, error) { return iovec.ReadAt(f.fd, bufs, off) })
}

// WriteVectorAt implements virtq.VectorWriterAt.
func (f file) WriteVectorAt(bufs [][]byte, off int64) (int, error) {
	return some(unix.EIO, func() (int, error) { return iovec.WriteAt(f.fd, bufs, off, f.flags) })
}

// all has move take the whole of p, which is at off.
func all(p []byte, off int64, move func(bufs [][]byte, off int64) (int, error)) (total int, err error) {
	for total < len(p) && err == nil {
		var n int
		n, err = move([][]byte{p[total:]}, off+int64(total))
		total += n
	}
	return total, err
}

// some is what a system call moved; nothing is an error.
func some(nothing error, call func() (int, error)) (int, error) {
	for {
		n, err := call()
		switch {
		case err == unix.EINTR:
			continue
		case err != nil:
			return 0, err
		case n == 0:
			return 0, nothing
		}
		return n, nil
	}
}
