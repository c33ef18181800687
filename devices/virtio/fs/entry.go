package fs

import (
	"bytes"

	"golang.org/x/sys/unix"
)

// make runs a function that makes a new entry and replies with what is there then.
func (s *session) make(c *call, name string, f func(dir int) error) error {
	dir, err := s.dir(c.header.node)
	if err != nil {
		return err
	}
	defer s.nodes.put(dir)
	if s.nodes.full() {
		return unix.ENFILE // before there is something that the guest cannot see
	}
	if err := f(dir.fd); err != nil {
		return err
	}
	return s.answer(c, dir, name)
}

// mknod is FUSE_MKNOD: regular files, FIFOs and sockets. The last two are names to
// the host, which never opens them.
func (s *session) mknod(c *call) error {
	mode := c.args.u32()
	c.args.take(12) // device, umask, padding
	name, err := c.args.name()
	if err != nil {
		return err
	}
	switch mode & unix.S_IFMT {
	case unix.S_IFREG, unix.S_IFIFO, unix.S_IFSOCK:
	default:
		return unix.EPERM
	}
	return s.make(c, name, func(dir int) error {
		return unix.Mknodat(dir, name, mode&(unix.S_IFMT|0o777), 0)
	})
}

// mkdir is FUSE_MKDIR.
func (s *session) mkdir(c *call) error {
	mode := c.args.u32()
	c.args.u32() // umask: applied by the guest
	name, err := c.args.name()
	if err != nil {
		return err
	}
	return s.make(c, name, func(dir int) error {
		return unix.Mkdirat(dir, name, mode&(unix.S_ISVTX|0o777))
	})
}

// symlink is FUSE_SYMLINK. The target can be any text: nothing here follows it.
func (s *session) symlink(c *call) error {
	name, err := c.args.name()
	if err != nil {
		return err
	}
	target := c.args.text()
	if err := c.args.end(); err != nil {
		return err
	}
	return s.make(c, name, func(dir int) error {
		return unix.Symlinkat(target, dir, name)
	})
}

// link is FUSE_LINK.
func (s *session) link(c *call) error {
	id := c.args.u64()
	name, err := c.args.name()
	if err != nil {
		return err
	}
	n, err := s.nodes.get(id)
	if err != nil {
		return err
	}
	defer s.nodes.put(n)
	switch n.kind {
	case unix.S_IFDIR, unix.S_IFCHR, unix.S_IFBLK:
		return unix.EPERM
	}
	return s.make(c, name, func(dir int) error {
		return s.root.link(n.fd, dir, name)
	})
}

// unlink is FUSE_UNLINK.
func (s *session) unlink(c *call) error { return s.remove(c, 0) }

// rmdir is FUSE_RMDIR.
func (s *session) rmdir(c *call) error { return s.remove(c, unix.AT_REMOVEDIR) }

func (s *session) remove(c *call, flags int) error {
	name, err := c.args.name()
	if err != nil {
		return err
	}
	dir, err := s.dir(c.header.node)
	if err != nil {
		return err
	}
	defer s.nodes.put(dir)
	return unix.Unlinkat(dir.fd, name, flags)
}

// rename is FUSE_RENAME.
func (s *session) rename(c *call) error {
	to := c.args.u64()
	return s.move(c, to, 0)
}

// rename2 is FUSE_RENAME2. RENAME_WHITEOUT, which makes a device node, is refused.
func (s *session) rename2(c *call) error {
	to, flags := c.args.u64(), c.args.u32()
	c.args.u32()
	if flags&^(unix.RENAME_NOREPLACE|unix.RENAME_EXCHANGE) != 0 {
		return unix.EINVAL
	}
	return s.move(c, to, uint(flags))
}

func (s *session) move(c *call, to uint64, flags uint) error {
	oldName, err := c.args.name()
	if err != nil {
		return err
	}
	newName, err := c.args.name()
	if err != nil {
		return err
	}
	from, err := s.dir(c.header.node)
	if err != nil {
		return err
	}
	defer s.nodes.put(from)
	dest, err := s.dir(to)
	if err != nil {
		return err
	}
	defer s.nodes.put(dest)
	if err := unix.Renameat2(from.fd, oldName, dest.fd, newName, flags); err != nil {
		return err
	}
	s.seen(dest, newName)
	if flags&unix.RENAME_EXCHANGE != 0 {
		s.seen(from, oldName)
	}
	return nil
}

// seen notes that what has this name now is there, so that a node which is not pinned
// is found where the guest moved it.
func (s *session) seen(dir *node, name string) {
	var st unix.Stat_t
	if unix.Fstatat(dir.fd, name, &st, unix.AT_SYMLINK_NOFOLLOW) == nil {
		s.nodes.moved(inodeOf(&st), place{dir.id, name})
	}
}

// hostDirent is an entry as getdents64(2) returns it.
type hostDirent struct {
	ino  uint64
	next uint64 // position after the entry
	kind uint8
	name []byte
}

const hostDirentSize = 19

// nextDirent takes the first entry off what the host's kernel returned.
func nextDirent(b []byte) (d hostDirent, rest []byte, ok bool) {
	if len(b) < hostDirentSize {
		return d, nil, false
	}
	size := int(le.Uint16(b[16:]))
	if size < hostDirentSize || size > len(b) {
		return d, nil, false
	}
	d = hostDirent{ino: le.Uint64(b), next: le.Uint64(b[8:]), kind: b[18], name: b[hostDirentSize:size]}
	if i := bytes.IndexByte(d.name, 0); i >= 0 {
		d.name = d.name[:i]
	}
	return d, b[size:], true
}
