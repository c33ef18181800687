package fs

import (
	"sync"

	"golang.org/x/sys/unix"
)

// handle is a file or directory that the guest has open.
type handle struct {
	id     uint64
	node   *node // in use, and so pinned, for as long as the handle is open
	fd     int
	dir    bool
	write  bool
	users  int
	gone   bool
	seeker sync.Mutex // held while a directory is read: its position is in the kernel
}

// handles is the table of what the guest has open. As with nodes, no number is used
// twice.
type handles struct {
	nodes *nodes
	limit int

	mu   sync.Mutex
	last uint64
	byID map[uint64]*handle
}

func newHandles(nodes *nodes, limit int) *handles {
	return &handles{nodes: nodes, limit: limit, byID: make(map[uint64]*handle)}
}

// add takes h and its descriptor over. The caller uses its node.
func (t *handles) add(h *handle) (uint64, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.byID) >= t.limit {
		unix.Close(h.fd)
		return 0, unix.ENFILE
	}
	t.nodes.hold(h.node)
	t.last++
	h.id = t.last
	t.byID[h.id] = h
	return h.id, nil
}

func (t *handles) full() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.byID) >= t.limit
}

// get returns a handle that the guest names, which must be of that node and of that
// kind; put gives it back.
func (t *handles) get(id, node uint64, dir bool) (*handle, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	h := t.byID[id]
	if h == nil || h.node.id != node || h.dir != dir {
		return nil, unix.EBADF
	}
	h.users++
	return h, nil
}

func (t *handles) put(h *handle) {
	t.mu.Lock()
	defer t.mu.Unlock()
	h.users--
	if h.gone && h.users == 0 {
		t.close(h)
	}
}

// release closes a handle once nobody works on it.
func (t *handles) release(id, node uint64, dir bool) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	h := t.byID[id]
	if h == nil || h.node.id != node || h.dir != dir {
		return unix.EBADF
	}
	t.drop(h)
	return nil
}

func (t *handles) reset() {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, h := range t.byID {
		t.drop(h)
	}
}

func (t *handles) drop(h *handle) {
	delete(t.byID, h.id)
	h.gone = true
	if h.users == 0 {
		t.close(h)
	}
}

func (t *handles) close(h *handle) {
	unix.Close(h.fd)
	t.nodes.put(h.node)
}
