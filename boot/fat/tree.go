package fat

import (
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
)

// A node is a file or a directory.
type node struct {
	path  string
	dir   bool
	size  int64
	inner []*node
	up    *node // nil for the root

	short             [11]byte
	cluster, clusters int64 // where it is: 0 clusters for an empty file
}

// read finds what is in a tree.
func read(files fs.FS, name string) (*node, error) {
	n := &node{path: name, dir: true}
	entries, err := fs.ReadDir(files, name) // sorted
	if err != nil {
		return nil, err
	}
	taken, names := make(map[[11]byte]bool), make(map[string]bool)
	for _, e := range entries {
		if strings.ContainsAny(e.Name(), notAllowed) || len(e.Name()) > maxName {
			return nil, fmt.Errorf("%q is no name for a file on a FAT file system", path.Join(name, e.Name()))
		}
		folded := strings.ToLower(e.Name())
		if names[folded] {
			return nil, fmt.Errorf("%s: there is another file of that name, with other capitals", path.Join(name, e.Name()))
		}
		names[folded] = true
		info, err := e.Info()
		if err != nil {
			return nil, err
		}
		inner := &node{path: path.Join(name, e.Name()), size: info.Size()}
		switch {
		case e.IsDir():
			if inner, err = read(files, inner.path); err != nil {
				return nil, err
			}
		case !info.Mode().IsRegular():
			return nil, fmt.Errorf("%s is no file", inner.path)
		case inner.size > maxFile:
			return nil, fmt.Errorf("%s has 4 GiB or more", inner.path)
		}
		if inner.short, err = shortName(e.Name(), taken); err != nil {
			return nil, err
		}
		taken[inner.short] = true
		inner.up = n
		n.inner = append(n.inner, inner)
	}
	return n, nil
}

func (n *node) name() string { return path.Base(n.path) }

// walk calls f with n and all that is in it, always in the same order.
func (n *node) walk(f func(*node)) {
	f(n)
	for _, inner := range n.inner {
		inner.walk(f)
	}
}

// place gives n and all that is in it clusters from next on, in the order of walk,
// and returns the one behind.
func (n *node) place(clusterSize, next int64) int64 {
	n.walk(func(n *node) {
		size := n.size
		if n.dir {
			size = int64(n.entries()) * entrySize
		}
		n.clusters, n.cluster = ceil(size, clusterSize), 0
		if n.clusters > 0 {
			n.cluster = next
			next += n.clusters
		}
	})
	return next
}

// entries are how many a directory has: two for itself and the one above, or one for
// the label, and those of what is in it. One is left empty.
func (n *node) entries() int {
	count := 3
	for _, inner := range n.inner {
		count += len(longName(inner.name())) + 1
	}
	return count
}

const (
	notAllowed = "\"*/:<>?\\|" // in long names (section 7)
	maxName    = 255
)

// allowed are what a short name may have beside letters and digits (section 6.1).
const allowed = "$%'-_@~`!(){}^#&"

// shortName makes up a name of eight and three capital letters that is not taken
// (section 7).
func shortName(name string, taken map[[11]byte]bool) (short [11]byte, err error) {
	base, ext := name, path.Ext(name)
	base = base[:len(base)-len(ext)]
	main, fits := capitals(base, 8)
	tail, fits2 := capitals(ext[min(1, len(ext)):], 3)
	fill := func(base, ext string) {
		copy(short[:], fmt.Sprintf("%-8s%-3s", base, ext))
	}
	if fill(main, tail); fits && fits2 && main != "" && !taken[short] {
		return short, nil
	}
	for i := range 1_000_000 {
		mark := fmt.Sprintf("~%d", i+1)
		if fill(main[:min(len(main), 8-len(mark))]+mark, tail); !taken[short] {
			return short, nil
		}
	}
	return short, fmt.Errorf("too many names like %q", name)
}

// capitals is what fits of a name into n capital letters, and whether that is all.
func capitals(name string, n int) (s string, all bool) {
	all = true
	for _, r := range name {
		switch {
		case r >= 'a' && r <= 'z':
			s += string(r - 'a' + 'A')
		case r >= 'A' && r <= 'Z', r >= '0' && r <= '9', slices.Contains([]rune(allowed), r):
			s += string(r)
		default:
			all = false
		}
	}
	if len(s) > n {
		return s[:n], false
	}
	return s, all
}
