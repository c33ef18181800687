package rootfs

import (
	"errors"
	"fmt"
	"strings"

	"warder/supervisor/rootfs/erofs"
)

// What one image may have. An image is from somewhere, and its tree is in memory
// while it is made.
const (
	maxFiles = 500_000
	maxText  = 128 << 20 // bytes of names, links and attributes
	maxDepth = 200       // directories in directories
	maxPath  = 4096      // bytes, PATH_MAX
	maxLinks = 40        // symbolic links on one path, as the kernel has it
	maxParts = 1024      // directories passed on one path, links among them
)

// tree is the file system of an image, as far as its layers have been laid on it.
// It is followed as a kernel follows paths below its root: links cannot lead out.
type tree struct {
	root        *erofs.Node
	files, text int
	touched     map[place]bool // by the layer that is laid on now
	opaque      map[*erofs.Node]bool
}

// place is a name in a directory.
type place struct {
	dir  *erofs.Node
	name string
}

func newDir() *erofs.Node {
	return &erofs.Node{Mode: erofs.TypeDir | 0o755, Children: make(map[string]*erofs.Node)}
}

func newTree() *tree {
	t := &tree{root: newDir()}
	t.nextLayer()
	return t
}

func (t *tree) nextLayer() {
	t.touched, t.opaque = make(map[place]bool), make(map[*erofs.Node]bool)
}

// split takes a path of an archive apart. None may climb.
func split(path string) ([]string, error) {
	if len(path) > maxPath {
		return nil, fmt.Errorf("a path of %d bytes: there can be %d", len(path), maxPath)
	}
	if strings.ContainsRune(path, 0) {
		return nil, errors.New("a path with a zero byte")
	}
	var parts []string
	for part := range strings.SplitSeq(path, "/") {
		switch {
		case part == "" || part == ".":
			continue
		case part == "..":
			return nil, errors.New(`a path with "..": it would lead out of the image`)
		case len(part) > erofs.MaxName:
			return nil, fmt.Errorf("a name of %d bytes: there can be %d", len(part), erofs.MaxName)
		}
		parts = append(parts, part)
	}
	return parts, nil
}

// dir finds the directory at a path, through symbolic links, nil when there is
// none. With create it makes what is missing.
func (t *tree) dir(parts []string, create bool) (*erofs.Node, error) {
	at := []*erofs.Node{t.root} // the way to where we are
	links := 0
	todo := parts
	for passed := 0; len(todo) > 0; passed++ {
		if passed >= maxParts {
			return nil, errors.New("a path through too many directories")
		}
		name := todo[0]
		todo = todo[1:]
		switch name {
		case "", ".":
			continue
		case "..":
			at = at[:max(len(at)-1, 1)]
			continue
		}
		here := at[len(at)-1]
		next := here.Children[name]
		switch {
		case next == nil && !create:
			return nil, nil
		case next == nil:
			next = newDir()
			if err := t.put(here, name, next); err != nil {
				return nil, err
			}
		case next.Mode&erofs.TypeMask == erofs.TypeSymlink:
			if links++; links > maxLinks {
				return nil, errors.New("a path through too many symbolic links")
			}
			if strings.HasPrefix(next.Target, "/") {
				at = at[:1]
			}
			todo = append(strings.Split(next.Target, "/"), todo...)
			continue
		case !next.IsDir():
			return nil, fmt.Errorf("%q on its path is no directory", name)
		}
		if at = append(at, next); len(at) > maxDepth {
			return nil, fmt.Errorf("more than %d directories in one another", maxDepth)
		}
		if create {
			t.touched[place{here, name}] = true
		}
	}
	return at[len(at)-1], nil
}

// put puts a node into a directory, in place of what is there. A directory takes
// over what another of its name holds.
func (t *tree) put(dir *erofs.Node, name string, n *erofs.Node) error {
	t.files++
	t.text += len(name) + len(n.Target)
	for k, v := range n.Xattrs {
		t.text += len(k) + len(v)
	}
	switch {
	case t.files > maxFiles:
		return fmt.Errorf("more than %d files", maxFiles)
	case t.text > maxText:
		return fmt.Errorf("more than %d MiB of names and attributes", maxText>>20)
	}
	if old := dir.Children[name]; old != nil && old.IsDir() && n.IsDir() {
		children := old.Children
		*old = *n
		old.Children = children
	} else {
		dir.Children[name] = n
	}
	t.touched[place{dir, name}] = true
	return nil
}

// remove takes out what layers below have put at a name. What this layer has put
// there stays.
func (t *tree) remove(dir *erofs.Node, name string) {
	n := dir.Children[name]
	switch {
	case n == nil:
	case !t.touched[place{dir, name}]:
		delete(dir.Children, name)
	case n.IsDir():
		t.clear(n)
	}
}

// clear takes out what layers below have put into a directory.
func (t *tree) clear(dir *erofs.Node) {
	if t.opaque[dir] {
		return
	}
	t.opaque[dir] = true // from here on all in it is this layer's
	for name := range dir.Children {
		t.remove(dir, name)
	}
}
