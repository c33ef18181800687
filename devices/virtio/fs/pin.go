package fs

import "golang.org/x/sys/unix"

// pin gives a node that is in use its descriptor again: from the nearest directory
// above it that is pinned, entry by entry. It fails with ESTALE when another file is
// found on the way, which makes the guest's kernel look the name up afresh.
func (t *nodes) pin(n *node) error {
	way, err := t.way(n)
	if err != nil {
		return err
	}
	dir := way[len(way)-1]
	for i := len(way) - 2; i >= 0; i-- {
		if err == nil {
			err = t.pinIn(dir, way[i])
		}
		t.put(dir)
		dir = way[i]
	}
	return err
}

// way is the node and the directories above it, up to the first that is pinned. All
// but the node itself are in use by the caller.
func (t *nodes) way(n *node) ([]*node, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	way := []*node{n}
	for n.fd < 0 {
		// Nodes that were moved behind our back can seem to be in each other.
		if n = t.byID[n.place.dir]; n == nil || len(way) > maxDepth {
			for _, above := range way[1:] {
				above.users-- // none is pinned: there is nothing to give back
			}
			return nil, unix.ESTALE
		}
		t.use(n)
		way = append(way, n)
	}
	return way, nil // the node alone, when somebody else was faster
}

// pinIn pins a node where it was last seen. dir is pinned.
func (t *nodes) pinIn(dir, n *node) error {
	t.mu.Lock()
	name, pinned := n.place.name, n.fd >= 0
	t.mu.Unlock()
	if pinned {
		return nil
	}
	fd, err := pin(dir.fd, name)
	if err != nil {
		return unix.ESTALE
	}
	var st unix.Stat_t
	err = unix.Fstat(fd, &st)
	t.mu.Lock()
	defer t.mu.Unlock()
	if err != nil || inodeOf(&st) != n.inode || n.fd < 0 && birth(fd) != n.born {
		unix.Close(fd)
		return unix.ESTALE
	}
	t.settle(n, fd)
	return nil
}

// use keeps a node pinned, or from being closed once it is. The lock is held here and
// below.
func (t *nodes) use(n *node) {
	n.users++
	if n.idle != nil {
		t.idle.Remove(n.idle)
		n.idle = nil
	}
}

// settle gives a node a descriptor, unless it has one.
func (t *nodes) settle(n *node, fd int) {
	if n.fd >= 0 {
		unix.Close(fd)
		return
	}
	n.fd = fd
	t.pinned++
	t.evict()
}

// evict closes the descriptors that were not used for longest. Those in use stay,
// whose number the requests at work and the handles limit.
func (t *nodes) evict() {
	for t.pinned > t.maxPinned && t.idle.Len() > 0 {
		n := t.idle.Back().Value.(*node)
		n.born = birth(n.fd)
		t.unpin(n)
	}
}

func (t *nodes) unpin(n *node) {
	if n.idle != nil {
		t.idle.Remove(n.idle)
		n.idle = nil
	}
	unix.Close(n.fd)
	n.fd = -1
	t.pinned--
}

func (t *nodes) drop(n *node) {
	delete(t.byID, n.id)
	delete(t.byInode, n.inode)
	n.gone = true
	if n.users == 0 && n.fd >= 0 {
		t.unpin(n)
	}
}

// birth is when a file was made, or zero where the host's file system does not know.
func birth(fd int) unix.StatxTimestamp {
	var st unix.Statx_t
	err := unix.Statx(fd, "", unix.AT_EMPTY_PATH|unix.AT_STATX_DONT_SYNC, unix.STATX_BTIME, &st)
	if err != nil || st.Mask&unix.STATX_BTIME == 0 {
		return unix.StatxTimestamp{}
	}
	return st.Btime
}
