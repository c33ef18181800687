package fs

import (
	"sync"

	"golang.org/x/sys/unix"
)

// rootID is FUSE_ROOT_ID.
const rootID = 1

// inode identifies a file on the host for as long as it is pinned.
type inode struct{ dev, ino uint64 }

// node is a file that the guest knows. It is pinned: its descriptor is O_PATH, and
// its kind (S_IFMT) cannot change.
type node struct {
	id      uint64
	fd      int
	kind    uint32
	inode   inode
	lookups uint64 // references of the guest
	users   int    // requests at work on it
	gone    bool   // not in the table: closed with the last user
}

// nodes is the table of files that the guest knows. Numbers are never used twice, so
// that a stale one means nothing rather than another file.
type nodes struct {
	mu      sync.Mutex
	limit   int
	last    uint64
	byID    map[uint64]*node
	byInode map[inode]*node
}

func newNodes(r *root, limit int) (*nodes, error) {
	t := &nodes{
		limit:   limit,
		last:    rootID,
		byID:    make(map[uint64]*node),
		byInode: make(map[inode]*node),
	}
	var st unix.Stat_t
	if err := unix.Fstat(r.fd, &st); err != nil {
		return nil, err
	}
	n := &node{id: rootID, fd: r.fd, kind: unix.S_IFDIR, inode: inode{uint64(st.Dev), st.Ino}}
	t.byID[rootID], t.byInode[n.inode] = n, n
	return t, nil
}

// get returns a node that the guest names; put gives it back.
func (t *nodes) get(id uint64) (*node, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := t.byID[id]
	if n == nil {
		return nil, unix.ESTALE
	}
	n.users++
	return n, nil
}

func (t *nodes) put(n *node) {
	t.mu.Lock()
	defer t.mu.Unlock()
	n.users--
	if n.gone && n.users == 0 {
		unix.Close(n.fd)
	}
}

// add turns a pinned file into a node, which may be known already, with one more
// reference of the guest. It takes fd over. put gives the node back.
func (t *nodes) add(fd int, st *unix.Stat_t) (*node, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	key := inode{uint64(st.Dev), st.Ino}
	n := t.byInode[key]
	if n != nil {
		unix.Close(fd)
	} else {
		if len(t.byID) >= t.limit {
			unix.Close(fd)
			return nil, unix.ENFILE
		}
		t.last++
		n = &node{id: t.last, fd: fd, kind: st.Mode & unix.S_IFMT, inode: key}
		t.byID[n.id], t.byInode[key] = n, n
	}
	n.users++
	if n.id != rootID {
		n.lookups++
	}
	return n, nil
}

// full reports whether add would refuse a file that is not known.
func (t *nodes) full() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.byID) >= t.limit
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

func (t *nodes) drop(n *node) {
	delete(t.byID, n.id)
	delete(t.byInode, n.inode)
	n.gone = true
	if n.users == 0 {
		unix.Close(n.fd)
	}
}
