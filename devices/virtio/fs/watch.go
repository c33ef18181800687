package fs

import (
	"io"
	"strings"

	"golang.org/x/sys/unix"
)

// A Watcher sees what a guest does to the content of regular files. It is called by
// the workers of the device, for several requests at once, and does not wait for
// the guest.
type Watcher interface {
	// Access is called before an access takes place. Its error, a [unix.Errno], is what the
	// guest gets in place of it. The access is good until it returns. It is called again
	// when a read is done.
	Access(a *Access) error
	// Content is how many of the first bytes of what is written the watcher looks at; 0 for
	// none. What it sees is then what is written, whatever the guest does to its
	// memory meanwhile.
	Content() int
}

// AccessKind is what a guest does to a file.
type AccessKind uint8

// The kinds of accesses. What a guest writes through a mapping comes as writes, what it
// reads through one as reads, and neither when a page is in its cache.
const (
	Read     AccessKind = iota
	Write               // of a range that is punched out or zeroed too, then without content
	Truncate            // Size is the file's new length
	Create              // the file is new
)

// Access is something that a guest is about to do to a file.
type Access struct {
	Kind AccessKind
	// Device and Inode are the host's numbers of the file.
	Device, Inode uint64
	// Offset and Size are the range in bytes. What is appended goes to the end of
	// the file, which Offset was when it was looked at.
	Offset, Size int64
	Append       bool
	// Done says that a read has taken place: what was written since it was to be can be
	// among what was read. Errors are of no consequence then.
	Done bool
	// Content is what is written, as far as [Watcher].Content asks for it.
	Content []byte
	// PID and UID are the process that asks, by the guest's word. A PID of 0 is the guest's
	// kernel, which writes back what it had in its cache.
	PID, UID uint32

	nodes *nodes
	node  *node
	fd    int
}

// Path is where in the share the file was last seen, with a / before it. Files that
// have moved on the host's side, and new names of old files, are not known.
func (a *Access) Path() string { return a.nodes.path(a.node) }

// Length is how long the file is now, -1 if that is not known.
func (a *Access) Length() int64 {
	var st unix.Stat_t
	if unix.Fstat(a.fd, &st) != nil {
		return -1
	}
	return st.Size
}

// ReadAt reads from the file, if it is one that the guest has open for reading.
func (a *Access) ReadAt(p []byte, off int64) (int, error) { return file{fd: a.fd}.ReadAt(p, off) }

var _ io.ReaderAt = (*Access)(nil)

// path is the names on the way to a node, by where each was last seen.
func (t *nodes) path(n *node) string {
	t.mu.Lock()
	defer t.mu.Unlock()
	var names []string
	size := 0
	for depth := 0; n != nil && n.id != rootID && depth < maxDepth && size < unix.PathMax; depth++ {
		names = append(names, n.place.name)
		size += 1 + len(n.place.name)
		n = t.byID[n.place.dir]
	}
	var b strings.Builder
	for i := len(names) - 1; i >= 0; i-- {
		b.WriteByte('/')
		b.WriteString(names[i])
	}
	if len(names) == 0 {
		return "/"
	}
	return b.String()
}

// access shows the watcher what is about to happen to a node, of which fd is a descriptor.
func (s *session) access(c *call, n *node, fd int, a Access) error {
	a.Device, a.Inode = n.inode.dev, n.inode.ino
	a.PID, a.UID = c.header.pid, c.header.uid
	a.nodes, a.node, a.fd = s.nodes, n, fd
	c.access = a
	return s.watcher.Access(&c.access)
}

// writing shows the watcher a write of size bytes that come from the request. If somebody looks
// at them, they are taken out of the guest's memory, and returned.
func (s *session) writing(c *call, h *handle, off int64, size int, appends bool) (content []byte, err error) {
	a := Access{Kind: Write, Offset: off, Size: int64(size), Append: appends}
	if n := min(s.watcher.Content(), size); n > 0 {
		if cap(c.content) < size {
			c.content = make([]byte, size)
		}
		content = c.content[:size]
		if _, err := io.ReadFull(c.in, content); err != nil {
			return nil, unix.EINVAL
		}
		a.Content = content[:n]
	}
	if appends {
		var st unix.Stat_t
		if err := unix.Fstat(h.fd, &st); err != nil {
			return nil, err
		}
		a.Offset = st.Size
	}
	return content, s.access(c, h.node, h.fd, a)
}

// done shows the watcher a read that has taken place.
func (s *session) done(c *call, h *handle, off, size int64) {
	_ = s.access(c, h.node, h.fd, Access{Kind: Read, Offset: off, Size: size, Done: true})
}

// copying shows the watcher a copy from one file to another.
func (s *session) copying(c *call, from, to *handle, fromOff, toOff, n int64) error {
	if err := s.access(c, from.node, from.fd, Access{Kind: Read, Offset: fromOff, Size: n}); err != nil {
		return err
	}
	a := Access{Kind: Write, Offset: toOff, Size: n}
	if want := min(int64(s.watcher.Content()), n); want > 0 {
		if int64(cap(c.content)) < want {
			c.content = make([]byte, want)
		}
		got, _ := file{fd: from.fd}.ReadAt(c.content[:want], fromOff) // what is beyond its end is not copied
		a.Content = c.content[:got]
	}
	return s.access(c, to.node, to.fd, a)
}
