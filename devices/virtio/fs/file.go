package fs

import (
	"errors"
	"io"

	"golang.org/x/sys/unix"
)

// writeArguments is the size of struct fuse_write_in, after which come the data.
const writeArguments = 40

// openFlags are the flags of the guest that reach the host. O_APPEND is given with
// each write, since the guest can change it later; O_DIRECT is about the guest's cache.
const openFlags = unix.O_ACCMODE | unix.O_TRUNC | unix.O_SYNC | unix.O_DSYNC

// openNode opens a regular file that the guest knows.
func (s *session) openNode(n *node, flags uint32) (*handle, error) {
	switch n.kind {
	case unix.S_IFREG:
	case unix.S_IFDIR:
		return nil, unix.EISDIR
	case unix.S_IFLNK:
		return nil, unix.ELOOP
	default:
		return nil, unix.ENXIO
	}
	write := writesTo(flags)
	if write {
		if s.readOnly {
			return nil, unix.EROFS
		}
		if err := s.root.dropSetID(n.fd); err != nil {
			return nil, err
		}
	}
	fd, err := s.root.reopen(n.fd, int(flags&openFlags))
	if err != nil {
		return nil, err
	}
	return &handle{node: n, fd: fd, write: write}, nil
}

func writesTo(flags uint32) bool {
	return flags&unix.O_ACCMODE != unix.O_RDONLY || flags&unix.O_TRUNC != 0
}

// opened is struct fuse_open_out. Without FOPEN_KEEP_CACHE the guest drops what it
// had of the file, so that it reads what other guests wrote.
func (s *session) opened(e *encoder, h *handle) error {
	id, err := s.handles.add(h)
	if err != nil {
		return err
	}
	e.u64(id)
	e.u32(0) // flags
	e.u32(0)
	return nil
}

// open is FUSE_OPEN.
func (s *session) open(c *call) error {
	flags := c.args.u32()
	if err := c.args.end(); err != nil {
		return err
	}
	if flags&unix.O_ACCMODE == unix.O_ACCMODE {
		return unix.EINVAL
	}
	n, err := s.nodes.get(c.header.node)
	if err != nil {
		return err
	}
	defer s.nodes.put(n)
	h, err := s.openNode(n, flags)
	if err != nil {
		return err
	}
	return s.opened(&c.reply, h)
}

// create is FUSE_CREATE: what is there is opened like any other node, so that a FIFO
// or a device of that name is not touched.
func (s *session) create(c *call) error {
	flags, mode := c.args.u32(), c.args.u32()
	c.args.u64() // umask: applied by the guest; open_flags
	name, err := c.args.name()
	if err != nil {
		return err
	}
	if flags&unix.O_ACCMODE == unix.O_ACCMODE {
		return unix.EINVAL
	}
	dir, err := s.dir(c.header.node)
	if err != nil {
		return err
	}
	defer s.nodes.put(dir)
	if s.nodes.full() || s.handles.full() {
		return unix.ENFILE
	}

	var n *node
	var st *unix.Stat_t
	var h *handle
	fd, err := openBeneath(dir.fd, name, int(flags&openFlags)|unix.O_CREAT|unix.O_EXCL|unix.O_NOCTTY, mode&0o777)
	switch {
	case err == nil:
		h = &handle{fd: fd, write: writesTo(flags)}
		var pinned int
		if pinned, err = s.root.reopen(fd, unix.O_PATH); err == nil {
			n, st, err = s.adopt(pinned, place{dir.id, name})
		}
		if err != nil {
			unix.Close(fd)
			return err
		}
		defer s.nodes.put(n)
		h.node = n
	case err == unix.EEXIST && flags&unix.O_EXCL == 0:
		if n, st, err = s.find(dir, name); err != nil {
			return err
		}
		defer s.nodes.put(n)
		if h, err = s.openNode(n, flags); err != nil {
			s.nodes.forget(n.id, 1) // the guest does not learn of it
			return err
		}
	default:
		return err
	}
	s.entry(&c.reply, n, st)
	if err := s.opened(&c.reply, h); err != nil {
		s.nodes.forget(n.id, 1)
		return err
	}
	return nil
}

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
	got, err := c.data.CopyAt(file{fd: h.fd}, off, int(n))
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
	put, err := c.in.CopyAt(f, off, int(size))
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
	copied, err := unix.CopyFileRange(from.fd, &fromOff, to.fd, &toOff, int(n), 0)
	if err != nil {
		return err
	}
	c.reply.u32(uint32(copied))
	c.reply.u32(0)
	return nil
}
