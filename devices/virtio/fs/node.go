package fs

import (
	"container/list"
	"sync"

	"golang.org/x/sys/unix"
)

const (
	// rootID is FUSE_ROOT_ID.
	rootID = 1
	// maxDepth bounds the way from the root on which an unpinned node is sought.
	maxDepth = 1024
)

// inode identifies a file on the host for as long as it is pinned.
type inode struct{ dev, ino uint64 }

// place is where a node was last seen: an entry of another.
type place struct {
	dir  uint64
	name string
}

// node is a file that the guest knows. While it is pinned it has an O_PATH
// descriptor, and no rename on whichever side can put another file in its place. A
// node that is not pinned is sought where it was last seen, and must be the same file.
type node struct {
	id      uint64
	kind    uint32 // S_IFMT, which cannot change
	inode   inode
	place   place
	fd      int                 // -1: not pinned
	born    unix.StatxTimestamp // of a node that is not pinned: inode numbers are used again
	lookups uint64              // references of the guest
	users   int                 // requests at work on it, and open handles; they keep it pinned
	gone    bool                // not in the table: closed with the last user
	idle    *list.Element       // in nodes.idle
}

// nodes is the table of files that the guest knows. Numbers are never used twice, so
// that a stale one means nothing rather than another file.
type nodes struct {
	maxNodes, maxPinned int

	mu      sync.Mutex
	last    uint64
	byID    map[uint64]*node
	byInode map[inode]*node
	pinned  int       // nodes with a descriptor, without the root
	idle    list.List // those of them without users, the latest used in front
}

func newNodes(r *root, maxNodes, maxPinned int) (*nodes, error) {
	t := &nodes{
		maxNodes:  maxNodes,
		maxPinned: maxPinned,
		last:      rootID,
		byID:      make(map[uint64]*node),
		byInode:   make(map[inode]*node),
	}
	var st unix.Stat_t
	if err := unix.Fstat(r.fd, &st); err != nil {
		return nil, err
	}
	n := &node{id: rootID, fd: r.fd, kind: unix.S_IFDIR, inode: inodeOf(&st)}
	t.byID[rootID], t.byInode[n.inode] = n, n
	return t, nil
}

func inodeOf(st *unix.Stat_t) inode { return inode{uint64(st.Dev), st.Ino} }

// get returns a node that the guest names, pinned; put gives it back.
func (t *nodes) get(id uint64) (*node, error) {
	t.mu.Lock()
	n := t.byID[id]
	if n == nil {
		t.mu.Unlock()
		return nil, unix.ESTALE
	}
	t.use(n)
	pinned := n.fd >= 0
	t.mu.Unlock()
	if pinned {
		return n, nil
	}
	if err := t.pin(n); err != nil {
		t.put(n)
		return nil, err
	}
	return n, nil
}

// hold is one more use of a node in use, for as long as a handle is open.
func (t *nodes) hold(n *node) {
	t.mu.Lock()
	defer t.mu.Unlock()
	n.users++
}

func (t *nodes) put(n *node) {
	t.mu.Lock()
	defer t.mu.Unlock()
	n.users--
	if n.users > 0 || n.id == rootID || n.fd < 0 {
		return
	}
	if n.gone {
		t.unpin(n)
		return
	}
	n.idle = t.idle.PushFront(n)
	t.evict()
}

// add turns a pinned file into a node, which may be known already, with one more
// reference of the guest. It takes fd over. put gives the node back.
func (t *nodes) add(fd int, st *unix.Stat_t, at place) (*node, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := t.byInode[inodeOf(st)]
	if n != nil && n.fd < 0 && birth(fd) != n.born {
		t.drop(n) // its file is no more, and this one has its number
		n = nil
	}
	if n == nil {
		if len(t.byID) >= t.maxNodes {
			unix.Close(fd)
			return nil, unix.ENFILE
		}
		t.last++
		n = &node{id: t.last, fd: -1, kind: st.Mode & unix.S_IFMT, inode: inodeOf(st)}
		t.byID[n.id], t.byInode[n.inode] = n, n
	}
	t.use(n)
	t.settle(n, fd)
	if n.id != rootID {
		n.place = at
		n.lookups++
	}
	return n, nil
}

// full reports whether add would refuse a file that is not known.
func (t *nodes) full() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.byID) >= t.maxNodes
}

// moved notes where a file is now, if it is known.
func (t *nodes) moved(key inode, to place) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if n := t.byInode[key]; n != nil && n.id != rootID {
		n.place = to
	}
}

// forget takes references of the guest back. Forgetting more than there are, or
// what is not known, is of no consequence.
func (t *nodes) forget(id, count uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := t.byID[id]
	if n == nil || id == rootID {
		return
	}
	n.lookups -= min(count, n.lookups)
	if n.lookups == 0 {
		t.drop(n)
	}
}

// reset forgets everything but the root.
func (t *nodes) reset() {
	t.mu.Lock()
	defer t.mu.Unlock()
	for id, n := range t.byID {
		if id != rootID {
			t.drop(n)
		}
	}
}
