package fs

import "golang.org/x/sys/unix"

// dir returns a node that the guest names as a directory.
func (s *session) dir(id uint64) (*node, error) {
	n, err := s.nodes.get(id)
	if err != nil {
		return nil, err
	}
	if n.kind != unix.S_IFDIR {
		s.nodes.put(n)
		return nil, unix.ENOTDIR
	}
	return n, nil
}

// find pins an entry of a directory as a node, with one more reference of the guest.
func (s *session) find(dir *node, name string) (*node, *unix.Stat_t, error) {
	fd, err := pin(dir.fd, name)
	if err != nil {
		return nil, nil, err
	}
	return s.adopt(fd, place{dir.id, name})
}

// adopt turns an O_PATH descriptor into a node.
func (s *session) adopt(fd int, at place) (*node, *unix.Stat_t, error) {
	st := new(unix.Stat_t)
	if err := unix.Fstat(fd, st); err != nil {
		unix.Close(fd)
		return nil, nil, err
	}
	n, err := s.nodes.add(fd, st, at)
	return n, st, err
}

// reply is struct fuse_entry_out.
func (s *session) entry(e *encoder, n *node, st *unix.Stat_t) {
	e.u64(n.id)
	e.u64(0) // generation: numbers are not used twice
	s.validity(e)
	e.attr(st)
}

// validity is for how long the guest may keep a name and attributes.
func (s *session) validity(e *encoder) {
	sec, nsec := uint64(s.cacheFor/1e9), uint32(s.cacheFor%1e9)
	e.u64(sec)
	e.u64(sec)
	e.u32(nsec)
	e.u32(nsec)
}

// answer replies with the entry of that name, found afresh.
func (s *session) answer(c *call, dir *node, name string) error {
	n, st, err := s.find(dir, name)
	if err != nil {
		return err
	}
	defer s.nodes.put(n)
	s.entry(&c.reply, n, st)
	return nil
}

// lookup is FUSE_LOOKUP.
func (s *session) lookup(c *call) error {
	name, err := c.args.name()
	if err != nil {
		return err
	}
	dir, err := s.dir(c.header.node)
	if err != nil {
		return err
	}
	defer s.nodes.put(dir)
	return s.answer(c, dir, name)
}

// forget is FUSE_FORGET.
func (s *session) forget(c *call) error {
	count := c.args.u64()
	if err := c.args.end(); err != nil {
		return err
	}
	s.nodes.forget(c.header.node, count)
	return nil
}

// batchForget is FUSE_BATCH_FORGET. What the request announces and does not hold is
// not there to be forgotten.
func (s *session) batchForget(c *call) error {
	count := c.args.u32()
	c.args.u32()
	for range count {
		id, references := c.args.u64(), c.args.u64()
		if err := c.args.end(); err != nil {
			return err
		}
		s.nodes.forget(id, references)
	}
	return nil
}

// readlink is FUSE_READLINK. The target is the guest's to resolve.
func (s *session) readlink(c *call) error {
	n, err := s.nodes.get(c.header.node)
	if err != nil {
		return err
	}
	defer s.nodes.put(n)
	if n.kind != unix.S_IFLNK {
		return unix.EINVAL
	}
	target := make([]byte, unix.PathMax)
	length, err := unix.Readlinkat(n.fd, "", target)
	if err != nil {
		return err
	}
	c.reply.b = append(c.reply.b, target[:min(length, c.data.Len())]...)
	return nil
}
