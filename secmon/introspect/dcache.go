package introspect

import (
	"fmt"
	"math/bits"
)

// maxChain bounds a hash chain of the dentry cache. The kernel sizes the table
// for chains of about one.
const maxChain = 1024

// nameHash is the kernel's full_name_hash for a name in a directory, as 64-bit
// little-endian kernels with CONFIG_DCACHE_WORD_ACCESS compute it (fs/namei.c).
func nameHash(dir uint64, name string) uint32 {
	const golden = 0x61c8864680b583eb
	x, y := uint64(0), dir
	for len(name) >= 8 {
		x ^= le.Uint64([]byte(name[:8]))
		y ^= x
		x = bits.RotateLeft64(x, 12) + y
		y = bits.RotateLeft64(y, 45) * 9
		name = name[8:]
	}
	var tail [8]byte
	copy(tail[:], name)
	x ^= le.Uint64(tail[:])
	y ^= x * golden
	y *= golden
	return uint32(y >> 32)
}

// child looks up a name in a directory as the kernel does, in the dentry
// cache. It gives 0 when the name is not cached, or cached as absent.
func (r *reader) child(dir uint64, name string) (uint64, error) {
	if r.dentryHash == 0 || r.dentryHashLog == 0 {
		return 0, nil
	}
	table, err := r.follow(r.dentryHash, field{0, 8})
	if err != nil {
		return 0, err
	}
	shift, err := r.uint(r.dentryHashLog, field{0, 4})
	if err != nil {
		return 0, err
	}
	hash := nameHash(dir, name)
	want := uint64(len(name))<<32 | uint64(hash)
	// The lowest bit of the first pointer is the chain's lock.
	node, err := r.uint(table+8*uint64(hash>>min(shift, 32)), r.layout.bucketFirst)
	node &^= 1
	for range maxChain {
		if err != nil || node == 0 {
			return 0, err
		}
		dentry := node - r.layout.dentryHash.off
		found, err := r.matches(dentry, dir, name, want)
		if err != nil {
			return 0, err
		}
		if found {
			inode, err := r.pointer(dentry, r.layout.dentryInode)
			if err != nil || inode == 0 {
				return 0, err
			}
			return dentry, nil
		}
		if node, err = r.uint(node, r.layout.nodeNext); err != nil {
			return 0, err
		}
	}
	return 0, fmt.Errorf("%w: more than %d names with one hash", ErrWalk, maxChain)
}

func (r *reader) matches(dentry, dir uint64, name string, hashLen uint64) (bool, error) {
	got, err := r.uint(dentry, r.layout.dentryNameHash)
	if err != nil || got != hashLen {
		return false, err
	}
	parent, err := r.pointer(dentry, r.layout.dentryParent)
	if err != nil || parent != dir {
		return false, err
	}
	own, err := r.nameInto(r.text[:maxName], dentry)
	return string(own) == name, err
}

// enter crosses to what is mounted on a place, as often as mounts are stacked.
func (r *reader) enter(at place) (place, error) {
	l := r.layout
	for range maxStacked {
		head := at.mount + l.mountChildren.off
		next, err := r.follow(head, field{0, 8})
		if err != nil {
			return at, err
		}
		found := uint64(0)
		for n := 0; next != head && found == 0; n++ {
			if n == maxSiblings {
				return at, fmt.Errorf("%w: more than %d mounts on one file system", ErrWalk, maxSiblings)
			}
			mount := next - l.mountChild.off
			point, err := r.pointer(mount, l.mountPoint)
			if err != nil {
				return at, err
			}
			if point == at.dentry {
				found = mount
			}
			if next, err = r.follow(next, field{0, 8}); err != nil {
				return at, err
			}
		}
		if found == 0 {
			return at, nil
		}
		root, err := r.mountRoot(found)
		if err != nil {
			return at, err
		}
		at = place{found, root}
	}
	return at, fmt.Errorf("%w: mounts that lead to each other", ErrWalk)
}
