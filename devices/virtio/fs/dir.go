package fs

import "golang.org/x/sys/unix"

// opendir is FUSE_OPENDIR.
func (s *session) opendir(c *call) error {
	dir, err := s.dir(c.header.node)
	if err != nil {
		return err
	}
	defer s.nodes.put(dir)
	fd, err := openBeneath(dir.fd, ".", unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return err
	}
	return s.opened(&c.reply, &handle{node: dir, fd: fd, dir: true})
}

// releasedir is FUSE_RELEASEDIR.
func (s *session) releasedir(c *call) error {
	id := c.args.u64()
	if err := c.args.end(); err != nil {
		return err
	}
	return s.handles.release(id, c.header.node, true)
}

// fsyncdir is FUSE_FSYNCDIR.
func (s *session) fsyncdir(c *call) error { return s.sync(c, true) }

// readdir is FUSE_READDIR.
func (s *session) readdir(c *call) error {
	return s.list(c, 0, func(dir *node, d hostDirent) error {
		c.reply.dirent(d, s.visibleInode(dir, d))
		return nil
	})
}

// readdirplus is FUSE_READDIRPLUS: a listing that looks every entry up as well. An
// entry that cannot be, because it went away or the table is full, is listed alone.
func (s *session) readdirplus(c *call) error {
	return s.list(c, entrySize, func(dir *node, d hostDirent) error {
		ino := s.visibleInode(dir, d)
		name := string(d.name)
		if name == "." || name == ".." {
			c.reply.zero(entrySize)
			c.reply.dirent(d, ino)
			return nil
		}
		n, st, err := s.find(dir, name)
		if err != nil {
			c.reply.zero(entrySize)
		} else {
			s.entry(&c.reply, n, st)
			s.nodes.put(n)
		}
		c.reply.dirent(d, ino)
		return nil
	})
}

// visibleInode is the entry's inode number, except that the root is its own parent.
func (s *session) visibleInode(dir *node, d hostDirent) uint64 {
	if dir.id == rootID && string(d.name) == ".." {
		return dir.inode.ino
	}
	return d.ino
}

// list reads entries from the position that the guest gives for as long as they fit,
// each with extra bytes in front.
func (s *session) list(c *call, extra int, emit func(*node, hostDirent) error) error {
	id, offset, size := c.args.u64(), c.args.u64(), c.args.u32()
	if err := c.args.end(); err != nil {
		return err
	}
	dir, err := s.dir(c.header.node)
	if err != nil {
		return err
	}
	defer s.nodes.put(dir)
	h, err := s.handles.get(id, dir.id, true)
	if err != nil {
		return err
	}
	defer s.handles.put(h)
	h.seeker.Lock()
	defer h.seeker.Unlock()

	room := int(min(int64(size), int64(c.data.Len()), maxListing))
	if _, err := unix.Seek(h.fd, int64(offset), unix.SEEK_SET); err != nil {
		return err
	}
	if c.dents == nil {
		c.dents = make([]byte, maxListing)
	}
	for {
		n, err := unix.Getdents(h.fd, c.dents)
		if err == unix.EINTR {
			continue
		}
		if err != nil || n == 0 {
			return ifEmpty(c, err)
		}
		for rest := c.dents[:n]; len(rest) > 0; {
			d, more, ok := nextDirent(rest)
			if !ok {
				return ifEmpty(c, unix.EIO)
			}
			rest = more
			if len(c.reply.b)+extra+direntLength(d.name) > room {
				if len(c.reply.b) == 0 {
					return unix.EINVAL // not even one fits
				}
				return nil
			}
			if err := emit(dir, d); err != nil {
				return err
			}
		}
	}
}

// ifEmpty keeps an error for the next request when there is something to return.
func ifEmpty(c *call, err error) error {
	if len(c.reply.b) > 0 {
		return nil
	}
	return err
}
