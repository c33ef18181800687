package fs

import (
	"errors"
	"io"

	"golang.org/x/sys/unix"
)

// writeArguments is the size of struct fuse_write_in, after which come the data.
const writeArguments = 40

// file returns an open regular file that the guest names.
func (s *session) file(c *call, id uint64) (*handle, error) {
	if err := c.args.end(); err != nil {
		return nil, err
	}
	return s.handles.get(id, c.header.node, false)
}

// read is FUSE_READ: from the file straight into the guest's memory.
func (s *session) read(c *call) error {
	id, offset, size := c.args.u64(), c.args.u64(), c.args.u32()
	h, err := s.file(c, id)
	if err != nil {
		return err
	}
	defer s.handles.put(h)
	n := min(int64(size), int64(c.data.Len()), maxTransfer)
	off, _, err := span(offset, uint64(n))
	if err != nil {
		return err
	}
	if s.watcher != nil {
		if err := s.access(c, h.node, h.fd, Access{Kind: Read, Offset: off, Size: n}); err != nil {
			return err
		}
	}
	got, err := c.data.CopyAt(file{fd: h.fd}, off, int(n))
	if s.watcher != nil {
		s.done(c, h, off, n)
	}
	if got == 0 && err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		return err
	}
	c.direct = got
	return nil
}

// write is FUSE_WRITE: from the guest's memory straight into the file.
func (s *session) write(c *call) error {
	id, offset, size := c.args.u64(), c.args.u64(), c.args.u32()
	c.args.take(12) // write_flags, lock owner
	flags := c.args.u32()
	c.args.u32()
	h, err := s.file(c, id)
	if err != nil {
		return err
	}
	defer s.handles.put(h)
	if !h.write {
		return unix.EBADF
	}
	if size > maxTransfer || uint64(size) > uint64(c.in.Len()) {
		return unix.EINVAL
	}
	off, _, err := span(offset, uint64(size))
	if err != nil {
		return err
	}
	f := file{fd: h.fd}
	if flags&unix.O_APPEND != 0 {
		f.flags = unix.RWF_APPEND
	}
	var content []byte
	if s.watcher != nil {
		if content, err = s.writing(c, h, off, int(size), f.flags != 0); err != nil {
			return err
		}
	}
	var put int
	if content != nil {
		put, err = f.WriteAt(content, off)
	} else {
		put, err = c.in.CopyAt(f, off, int(size))
	}
	if put == 0 && err != nil {
		return err
	}
	c.reply.u32(uint32(put))
	c.reply.u32(0)
	return nil
}

// flush is FUSE_FLUSH, a close of one of several descriptors in the guest: late errors
// of the host's file system come with a close.
func (s *session) flush(c *call) error {
	h, err := s.file(c, c.args.u64())
	if err != nil {
		return err
	}
	defer s.handles.put(h)
	fd, err := unix.FcntlInt(uintptr(h.fd), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return err
	}
	return unix.Close(fd)
}

// fsync is FUSE_FSYNC.
func (s *session) fsync(c *call) error { return s.sync(c, false) }

func (s *session) sync(c *call, dir bool) error {
	id, flags := c.args.u64(), c.args.u32()
	if err := c.args.end(); err != nil {
		return err
	}
	h, err := s.handles.get(id, c.header.node, dir)
	if err != nil {
		return err
	}
	defer s.handles.put(h)
	if flags&1 != 0 {
		return unix.Fdatasync(h.fd)
	}
	return unix.Fsync(h.fd)
}

// syncfs is FUSE_SYNCFS, a sync in the guest.
func (s *session) syncfs(*call) error {
	fd, err := openBeneath(s.root.fd, ".", unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return unix.Syncfs(fd)
}

// release is FUSE_RELEASE, the last close in the guest.
func (s *session) release(c *call) error {
	id := c.args.u64()
	if err := c.args.end(); err != nil {
		return err
	}
	return s.handles.release(id, c.header.node, false)
}

// fallocate is FUSE_FALLOCATE.
func (s *session) fallocate(c *call) error {
	id, offset, length, mode := c.args.u64(), c.args.u64(), c.args.u64(), c.args.u32()
	h, err := s.file(c, id)
	if err != nil {
		return err
	}
	defer s.handles.put(h)
	if !h.write {
		return unix.EBADF
	}
	off, n, err := span(offset, length)
	if err != nil {
		return err
	}
	switch mode {
	case 0, unix.FALLOC_FL_KEEP_SIZE,
		unix.FALLOC_FL_PUNCH_HOLE | unix.FALLOC_FL_KEEP_SIZE,
		unix.FALLOC_FL_ZERO_RANGE, unix.FALLOC_FL_ZERO_RANGE | unix.FALLOC_FL_KEEP_SIZE:
		if s.watcher != nil && mode&(unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_ZERO_RANGE) != 0 {
			if err := s.access(c, h.node, h.fd, Access{Kind: Write, Offset: off, Size: n}); err != nil {
				return err
			}
		}
		return unix.Fallocate(h.fd, mode, off, n)
	default:
		return unix.EOPNOTSUPP
	}
}

// lseek is FUSE_LSEEK, which comes for SEEK_DATA and SEEK_HOLE. The position itself
// is not used by anything.
func (s *session) lseek(c *call) error {
	id, offset, whence := c.args.u64(), c.args.u64(), c.args.u32()
	h, err := s.file(c, id)
	if err != nil {
		return err
	}
	defer s.handles.put(h)
	if whence != unix.SEEK_DATA && whence != unix.SEEK_HOLE {
		return unix.EINVAL
	}
	off, _, err := span(offset, 0)
	if err != nil {
		return err
	}
	at, err := unix.Seek(h.fd, off, int(whence))
	if err != nil {
		return err
	}
	c.reply.u64(uint64(at))
	return nil
}

// copyFileRange is FUSE_COPY_FILE_RANGE. It copies no more than a large write would,
// so that one request does not keep others waiting; the guest asks for the rest.
func (s *session) copyFileRange(c *call) error {
	fromID, fromOffset := c.args.u64(), c.args.u64()
	toNode, toID, toOffset := c.args.u64(), c.args.u64(), c.args.u64()
	length, flags := c.args.u64(), c.args.u64()
	from, err := s.file(c, fromID)
	if err != nil {
		return err
	}
	defer s.handles.put(from)
	to, err := s.handles.get(toID, toNode, false)
	if err != nil {
		return err
	}
	defer s.handles.put(to)
	if !to.write {
		return unix.EBADF
	}
	if flags != 0 {
		return unix.EINVAL
	}
	length = min(length, 16*maxTransfer)
	fromOff, _, err := span(fromOffset, length)
	if err != nil {
		return err
	}
	toOff, n, err := span(toOffset, length)
	if err != nil {
		return err
	}
	if s.watcher != nil {
		if err := s.copying(c, from, to, fromOff, toOff, n); err != nil {
			return err
		}
	}
	began := fromOff
	copied, err := unix.CopyFileRange(from.fd, &fromOff, to.fd, &toOff, int(n), 0)
	if s.watcher != nil {
		s.done(c, from, began, n)
	}
	if err != nil {
		return err
	}
	c.reply.u32(uint32(copied))
	c.reply.u32(0)
	return nil
}
