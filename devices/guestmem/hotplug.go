package guestmem

import (
	"errors"
	"fmt"
	"os"
	"sync/atomic"
)

// ErrKept says that pages can't go because the host keeps them, see [Kept].
var ErrKept = errors.New("guestmem: the host keeps pages there")

// blocks are the parts of a region whose memory comes and goes. An access to one
// that is not there is out of range, and gives it no memory of the host.
type blocks struct {
	size  uint64 // of each, in bytes
	there []atomic.Bool
}

// has reports whether all of the n bytes at off are there.
func (b *blocks) has(off, n uint64) bool {
	if n == 0 {
		return true
	}
	for i := off / b.size; i <= (off+n-1)/b.size; i++ {
		if !b.there[i].Load() {
			return false
		}
	}
	return true
}

// Hotplug makes the region that starts at base one of blocks of that size, in
// whole pages, none of which is there until it is plugged. It belongs before the
// first use of the memory.
func (m *Memory) Hotplug(base Addr, block uint64) error {
	for i := range m.regions {
		r := &m.regions[i]
		if r.Base != base {
			continue
		}
		if size := uint64(len(r.Bytes)); block == 0 || block%uint64(os.Getpagesize()) != 0 || size%block != 0 {
			return fmt.Errorf("guestmem: region of %d bytes in blocks of %d", size, block)
		}
		r.blocks = &blocks{block, make([]atomic.Bool, uint64(len(r.Bytes))/block)}
		return nil
	}
	return ErrRange
}

// Plug has the blocks in the n bytes at a be there, empty. ErrRange if these are
// not whole blocks of one region.
func (m *Memory) Plug(a Addr, n uint64) error {
	there, err := m.blocksIn(a, n)
	for i := range there {
		there[i].Store(true)
	}
	return err
}

// Unplug takes away the blocks in the n bytes at a and gives their memory back to
// the host. ErrKept if the host keeps a page there: then nothing has happened.
//
// Whoever has a piece of them from before, by Slice, may bring a page of the
// host's memory back by a write: nobody can see it, until the block is plugged
// again, and the next Unplug takes it.
func (m *Memory) Unplug(a Addr, n uint64) error {
	there, err := m.blocksIn(a, n)
	if err != nil {
		return err
	}
	m.keeping.mu.Lock()
	kept := m.keeping.within(a, a+Addr(n), Addr(os.Getpagesize()))
	if len(kept) == 0 {
		for i := range there {
			there[i].Store(false)
		}
		m.unplugs.Add(1)
	}
	m.keeping.mu.Unlock()
	if len(kept) > 0 {
		return ErrKept
	}
	_, err = m.Discard(a, n)
	return err
}

// Unplugs counts how often memory was taken away. As long as it is the same, what
// Slice and Word have given is still the guest's.
func (m *Memory) Unplugs() uint64 { return m.unplugs.Load() }

func (m *Memory) blocksIn(a Addr, n uint64) ([]atomic.Bool, error) {
	for _, r := range m.regions {
		if r.blocks == nil || a < r.Base {
			continue
		}
		off, size := uint64(a-r.Base), uint64(len(r.Bytes))
		if off > size || n > size-off || off%r.blocks.size != 0 || n%r.blocks.size != 0 {
			continue
		}
		return r.blocks.there[off/r.blocks.size : (off+n)/r.blocks.size], nil
	}
	return nil, ErrRange
}
