package guestmem

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"sync"

	"golang.org/x/sys/unix"
)

// Kept is a set of pages that the host has a use for: [Memory.Discard] passes
// over them, whoever asks for it. A page that is watched for writes, or that
// the host has written a hook into, would otherwise be emptied by the guest's
// word that it is free, past whoever watches it.
type Kept struct {
	m     *Memory
	pages map[Addr]struct{}
}

// keeping is the part of a Memory that Discard and Kept share.
type keeping struct {
	mu   sync.Mutex // held while pages are given back
	sets []*Kept
}

// Keep returns a set with no page in it yet.
func (m *Memory) Keep() *Kept {
	k := &Kept{m: m, pages: make(map[Addr]struct{})}
	m.keeping.mu.Lock()
	defer m.keeping.mu.Unlock()
	m.keeping.sets = append(m.keeping.sets, k)
	return k
}

// Add puts the pages that hold any of the n bytes at a into the set. From its
// return on they are not discarded.
func (k *Kept) Add(a Addr, n uint64) error {
	k.m.keeping.mu.Lock()
	defer k.m.keeping.mu.Unlock()
	if err := k.m.Check(a, n); err != nil || n == 0 {
		return err
	}
	page := Addr(os.Getpagesize())
	first := a &^ (page - 1)
	for off := Addr(0); off <= a+Addr(n-1)-first; off += page {
		k.pages[first+off] = struct{}{}
	}
	return nil
}

// Close lets all pages of the set go.
func (k *Kept) Close() error {
	k.m.keeping.mu.Lock()
	defer k.m.keeping.mu.Unlock()
	k.m.keeping.sets = slices.DeleteFunc(k.m.keeping.sets, func(other *Kept) bool { return other == k })
	return nil
}

// within are the kept pages from a up to end, ascending. The caller holds
// keeping.mu.
func (k *keeping) within(a, end, page Addr) []Addr {
	found := make(map[Addr]struct{})
	for _, set := range k.sets {
		// Whichever is the shorter way.
		if uint64((end-a)/page) < uint64(len(set.pages)) {
			for p := a; p < end; p += page {
				if _, ok := set.pages[p]; ok {
					found[p] = struct{}{}
				}
			}
			continue
		}
		for p := range set.pages {
			if p >= a && p < end {
				found[p] = struct{}{}
			}
		}
	}
	return slices.Sorted(maps.Keys(found))
}

// Discard gives the host pages that lie wholly in the n bytes at a back to the
// host, and returns how many bytes those are: they read as zeros, and take
// memory again when they are next touched. What is not RAM, or kept, is passed
// over, so that any range may be asked for. Memory made by [New] has nothing to
// give back.
//
// It is fallocate(2) with FALLOC_FL_PUNCH_HOLE, by way of madvise(2),
// MADV_REMOVE: the pages leave every mapping of the file, KVM's too.
func (m *Memory) Discard(a Addr, n uint64) (discarded uint64, err error) {
	if m.fd < 0 {
		return 0, nil
	}
	page := Addr(os.Getpagesize())
	end := a + Addr(n)
	if end < a {
		end = ^Addr(0)
	}
	m.keeping.mu.Lock()
	defer m.keeping.mu.Unlock()
	for _, r := range m.regions {
		from := (max(a, r.Base) + page - 1) &^ (page - 1)
		to := min(end, r.Base+Addr(len(r.Bytes))) &^ (page - 1)
		if from < max(a, r.Base) || from >= to {
			continue
		}
		for _, kept := range append(m.keeping.within(from, to, page), to) {
			if from < kept {
				if err := r.remove(from, kept); err != nil {
					return discarded, err
				}
				discarded += uint64(kept - from)
			}
			from = kept + page
		}
	}
	return discarded, nil
}

// remove empties the region's pages from one address to another.
func (r Region) remove(from, to Addr) error {
	b := r.Bytes[from-r.Base : to-r.Base]
	for {
		err := unix.Madvise(b, unix.MADV_REMOVE)
		if errors.Is(err, unix.EINTR) || errors.Is(err, unix.EAGAIN) {
			continue
		}
		if err != nil {
			return fmt.Errorf("guestmem: give back %d bytes: %w", len(b), err)
		}
		return nil
	}
}

// Used is how many bytes of the memory take memory of the host, 0 for memory
// made by [New].
func (m *Memory) Used() (uint64, error) {
	if m.fd < 0 {
		return 0, nil
	}
	var st unix.Stat_t
	if err := unix.Fstat(m.fd, &st); err != nil {
		return 0, fmt.Errorf("guestmem: %w", err)
	}
	return uint64(st.Blocks) * 512, nil // st_blocks counts 512 bytes, stat(2)
}
