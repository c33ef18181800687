package fs

import "golang.org/x/sys/unix"

func (s *session) attrReply(c *call, n *node) error {
	var st unix.Stat_t
	if err := unix.Fstat(n.fd, &st); err != nil {
		return err
	}
	c.reply.u64(uint64(s.cacheFor / 1e9))
	c.reply.u32(uint32(s.cacheFor % 1e9))
	c.reply.u32(0)
	c.reply.attr(&st)
	return nil
}

// getattr is FUSE_GETATTR. A handle in it is of no interest: the node is pinned.
func (s *session) getattr(c *call) error {
	n, err := s.nodes.get(c.header.node)
	if err != nil {
		return err
	}
	defer s.nodes.put(n)
	return s.attrReply(c, n)
}

// change is struct fuse_setattr_in.
type change struct {
	valid        uint32
	handle       uint64
	size         uint64
	atime, mtime unix.Timespec
	mode         uint32
	uid, gid     uint32
}

func (d *decoder) change() (change, error) {
	var a change
	a.valid = d.u32()
	d.u32()
	a.handle = d.u64()
	a.size = d.u64()
	d.u64() // lock owner
	a.atime.Sec = int64(d.u64())
	a.mtime.Sec = int64(d.u64())
	d.u64() // ctime is the host's
	a.atime.Nsec = int64(d.u32())
	a.mtime.Nsec = int64(d.u32())
	d.u32()
	a.mode = d.u32()
	d.u32()
	a.uid = d.u32()
	a.gid = d.u32()
	d.u32()
	return a, d.end()
}

// setattr is FUSE_SETATTR.
func (s *session) setattr(c *call) error {
	a, err := c.args.change()
	if err != nil {
		return err
	}
	n, err := s.nodes.get(c.header.node)
	if err != nil {
		return err
	}
	defer s.nodes.put(n)
	if n.kind == unix.S_IFCHR || n.kind == unix.S_IFBLK {
		return unix.EPERM // a device of the host is not the guest's to open to others
	}
	if a.valid&(setUID|setGID) != 0 {
		if err := s.chown(n, a); err != nil {
			return err
		}
	}
	if a.valid&setMode != 0 {
		if err := s.chmod(n, a.mode); err != nil {
			return err
		}
	}
	if a.valid&setSize != 0 {
		if err := s.truncate(c, n, a); err != nil {
			return err
		}
	}
	if a.valid&(setAtime|setMtime) != 0 {
		times := []unix.Timespec{
			timeToSet(a.valid, setAtime, setAtimeNow, a.atime),
			timeToSet(a.valid, setMtime, setMtimeNow, a.mtime),
		}
		if err := s.root.utimes(n.fd, times); err != nil {
			return err
		}
	}
	return s.attrReply(c, n)
}

func timeToSet(valid, set, now uint32, t unix.Timespec) unix.Timespec {
	switch {
	case valid&set == 0:
		return unix.Timespec{Nsec: unix.UTIME_OMIT}
	case valid&now != 0:
		return unix.Timespec{Nsec: unix.UTIME_NOW}
	case t.Nsec < 0 || t.Nsec > 999_999_999:
		// UTIME_NOW and UTIME_OMIT have such values; the protocol has flags for them.
		return unix.Timespec{Sec: t.Sec}
	default:
		return t
	}
}

// chown changes owners if that is allowed. Leaving them as they are always is:
// copying with attributes asks for it.
func (s *session) chown(n *node, a change) error {
	var st unix.Stat_t
	if err := unix.Fstat(n.fd, &st); err != nil {
		return err
	}
	uid, gid := -1, -1
	if a.valid&setUID != 0 && a.uid != st.Uid {
		uid = int(a.uid)
	}
	if a.valid&setGID != 0 && a.gid != st.Gid {
		gid = int(a.gid)
	}
	if uid < 0 && gid < 0 {
		return nil
	}
	if !s.owner {
		return unix.EPERM
	}
	return unix.Fchownat(n.fd, "", uid, gid, unix.AT_EMPTY_PATH)
}

// chmod changes the mode, but adds no set-ID bit except a directory's for its group,
// which lets nobody run anything.
func (s *session) chmod(n *node, mode uint32) error {
	if n.kind == unix.S_IFLNK {
		return unix.EOPNOTSUPP
	}
	var st unix.Stat_t
	if err := unix.Fstat(n.fd, &st); err != nil {
		return err
	}
	refused := uint32(setID)
	if n.kind == unix.S_IFDIR {
		refused = unix.S_ISUID
	}
	mode &= 0o7777
	if mode&^st.Mode&refused != 0 {
		return unix.EPERM
	}
	return s.root.chmod(n.fd, mode)
}

// truncate sets the size of a regular file.
func (s *session) truncate(c *call, n *node, a change) error {
	size, _, err := span(a.size, 0)
	if err != nil {
		return err
	}
	if n.kind != unix.S_IFREG {
		return unix.EINVAL
	}
	if err := s.root.dropSetID(n.fd); err != nil {
		return err
	}
	if s.watcher != nil {
		if err := s.access(c, n, n.fd, Access{Kind: Truncate, Size: size}); err != nil {
			return err
		}
	}
	if a.valid&setHandle != 0 {
		// The handle may have been opened when the mode still allowed it.
		h, err := s.handles.get(a.handle, n.id, false)
		if err != nil {
			return err
		}
		defer s.handles.put(h)
		return unix.Ftruncate(h.fd, size)
	}
	fd, err := s.root.reopen(n.fd, unix.O_WRONLY)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return unix.Ftruncate(fd, size)
}

// statfs is FUSE_STATFS.
func (s *session) statfs(c *call) error {
	n, err := s.nodes.get(c.header.node)
	if err != nil {
		return err
	}
	defer s.nodes.put(n)
	var st unix.Statfs_t
	if err := unix.Fstatfs(n.fd, &st); err != nil {
		return err
	}
	r := &c.reply
	r.u64(st.Blocks)
	r.u64(st.Bfree)
	r.u64(st.Bavail)
	r.u64(st.Files)
	r.u64(st.Ffree)
	r.u32(uint32(st.Bsize))
	r.u32(uint32(st.Namelen))
	r.u32(uint32(st.Frsize))
	r.zero(7 * 4)
	return nil
}
