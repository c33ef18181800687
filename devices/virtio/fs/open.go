package fs

import "golang.org/x/sys/unix"

// openFlags are the flags of the guest that reach the host. O_APPEND is given with
// each write, since the guest can change it later; O_DIRECT is about the guest's cache.
const openFlags = unix.O_ACCMODE | unix.O_TRUNC | unix.O_SYNC | unix.O_DSYNC

// openNode opens a regular file that the guest knows.
func (s *session) openNode(c *call, n *node, flags uint32) (*handle, error) {
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
	if s.watcher != nil && flags&unix.O_TRUNC != 0 {
		if err := s.access(c, n, n.fd, Access{Kind: Truncate}); err != nil {
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
	h, err := s.openNode(c, n, flags)
	if err != nil {
		return err
	}
	return s.opened(&c.reply, h)
}

// create is FUSE_CREATE: what has the name already is opened like any other node, so
// that a FIFO or a device is not touched.
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
	h, err := s.createIn(c, dir, name, flags, mode)
	if err == unix.EEXIST && flags&unix.O_EXCL == 0 {
		h, err = s.openIn(c, dir, name, flags)
	}
	if err != nil {
		return err
	}
	defer s.nodes.put(h.node)
	var st unix.Stat_t
	if err = unix.Fstat(h.fd, &st); err != nil {
		unix.Close(h.fd)
	} else {
		s.entry(&c.reply, h.node, &st)
		err = s.opened(&c.reply, h)
	}
	if err != nil {
		s.nodes.forget(h.node.id, 1) // the guest does not learn of it
	}
	return err
}

// createIn makes a regular file and opens it. Its node is in use by the caller.
func (s *session) createIn(c *call, dir *node, name string, flags, mode uint32) (*handle, error) {
	how := int(flags&openFlags) | unix.O_CREAT | unix.O_EXCL | unix.O_NOCTTY
	fd, err := openBeneath(dir.fd, name, how, mode&0o777)
	if err != nil {
		return nil, err
	}
	pinned, err := s.root.reopen(fd, unix.O_PATH)
	if err != nil {
		unix.Close(fd)
		return nil, err
	}
	n, _, err := s.adopt(pinned, place{dir.id, name})
	if err != nil {
		unix.Close(fd)
		return nil, err
	}
	if s.watcher != nil {
		_ = s.access(c, n, fd, Access{Kind: Create}) // it is there already
	}
	return &handle{node: n, fd: fd, write: writesTo(flags)}, nil
}

// openIn opens a regular file by name. Its node is in use by the caller.
func (s *session) openIn(c *call, dir *node, name string, flags uint32) (*handle, error) {
	n, _, err := s.find(dir, name)
	if err != nil {
		return nil, err
	}
	h, err := s.openNode(c, n, flags)
	if err != nil {
		s.nodes.forget(n.id, 1)
		s.nodes.put(n)
		return nil, err
	}
	return h, nil
}
