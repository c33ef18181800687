package erofs

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
)

const (
	superblockAt   = 1024
	superblockSize = 128
	// firstInode is where the root's inode is. An inode's number is its place in
	// units of slotSize; 0 is none that all programs take for one.
	firstInode = superblockAt + superblockSize
	slotSize   = 32
	inodeSize  = 64 // of the extended form, which has times and large ids
	direntSize = 12
	// inlineMost is the longest content that is kept behind its inode, in bytes.
	// What is longer gets blocks of its own: those can be mapped directly.
	inlineMost = 2048
)

// inode is a node with its place in the image.
type inode struct {
	node    *Node
	at      int64 // in bytes
	links   uint32
	xattrs  []byte
	size    int64
	inline  bool
	block   int64   // the first one of content that is not inline
	entries []entry // of a directory, in the order of their names
}

type entry struct {
	name string
	to   *inode
}

func (i *inode) number() uint64 { return uint64(i.at / slotSize) }

// header is the size of the inode with its attributes.
func (i *inode) header() int64 { return inodeSize + int64(len(i.xattrs)) }

// blocks is how many of its own the inode has.
func (i *inode) blocks() int64 {
	if i.inline {
		return 0
	}
	return (i.size + BlockSize - 1) / BlockSize
}

// plan is where everything goes.
type plan struct {
	inodes []*inode
	known  map[*Node]*inode
	meta   int64 // blocks of superblock and inodes
	blocks int64 // all
}

func makePlan(root *Node) (*plan, error) {
	if !root.IsDir() {
		return nil, errors.New("the root is no directory")
	}
	p := &plan{known: make(map[*Node]*inode)}
	if _, err := p.add(root, nil); err != nil {
		return nil, err
	}
	p.place()
	if p.blocks >= maxBlocks {
		return nil, fmt.Errorf("%d blocks: there can be %d", p.blocks, int64(maxBlocks))
	}
	return p, nil
}

// add takes in a node and what is below it. A directory's parent is nil for the root.
func (p *plan) add(n *Node, parent *inode) (*inode, error) {
	if i := p.known[n]; i != nil {
		if n.IsDir() {
			return nil, errors.New("it is a directory with several names")
		}
		i.links++
		return i, nil
	}
	i := &inode{node: n, links: 1}
	p.known[n] = i
	p.inodes = append(p.inodes, i)
	var err error
	if i.xattrs, err = encodeXattrs(n.Xattrs); err != nil {
		return nil, err
	}
	switch n.Mode & TypeMask {
	case TypeRegular:
		i.size = n.Size
		if n.Size < 0 || n.Size > 0 && n.Open == nil {
			return nil, fmt.Errorf("a file of %d bytes without them", n.Size)
		}
	case TypeSymlink:
		i.size = int64(len(n.Target))
		if i.size == 0 || i.size > MaxTarget {
			return nil, fmt.Errorf("a symbolic link to %d bytes", i.size)
		}
	case TypeDir:
		return i, p.addDir(i, parent)
	case TypeChar, TypeBlock, TypeFIFO, TypeSocket:
	default:
		return nil, fmt.Errorf("mode %#o is of no type", n.Mode)
	}
	return i, nil
}

func (p *plan) addDir(i, parent *inode) error {
	up := parent
	if up == nil {
		up = i
	}
	i.entries = append(i.entries, entry{".", i}, entry{"..", up})
	for _, name := range slices.Sorted(maps.Keys(i.node.Children)) {
		if name == "" || len(name) > MaxName || name == "." || name == ".." {
			return fmt.Errorf("a file cannot have the name %q", name[:min(len(name), MaxName)])
		}
		child, err := p.add(i.node.Children[name], i)
		if err != nil {
			return below(name, err)
		}
		if child.node.IsDir() {
			i.links++ // its ".."
		}
		i.entries = append(i.entries, entry{name, child})
	}
	i.links++ // "."
	// By their bytes, "." and ".." too: the kernel searches.
	slices.SortFunc(i.entries, func(a, b entry) int { return strings.Compare(a.name, b.name) })
	for chunk := range chunks(i.entries) {
		i.size += BlockSize
		if len(chunk.rest) == 0 {
			i.size += chunk.size - BlockSize
		}
	}
	return nil
}

// place gives inodes and blocks their places.
func (p *plan) place() {
	at := int64(firstInode)
	for _, i := range p.inodes {
		symlink := i.node.Mode&TypeMask == TypeSymlink
		i.inline = i.size > 0 && (i.size <= inlineMost || symlink) && i.header()+i.size <= BlockSize
		need := min(i.header(), BlockSize)
		if i.inline {
			need += i.size
		}
		if at%BlockSize+need > BlockSize { // neither goes over a block's end
			at = alignUp(at, BlockSize)
		}
		i.at = at
		at += i.header()
		if i.inline {
			at += i.size
		}
		at = alignUp(at, slotSize)
	}
	p.meta = alignUp(at, BlockSize) / BlockSize
	p.blocks = p.meta
	for _, i := range p.inodes {
		if n := i.blocks(); n > 0 {
			i.block = p.blocks
			p.blocks += n
		}
	}
}

// A pathError is what is wrong with a file of the tree.
type pathError struct {
	path string
	err  error
}

func (e *pathError) Error() string { return e.path + ": " + e.err.Error() }
func (e *pathError) Unwrap() error { return e.err }

// below says in which directory an error is.
func below(name string, err error) error {
	if e, ok := err.(*pathError); ok {
		return &pathError{name + "/" + e.path, e.err}
	}
	return &pathError{name, err}
}

func alignUp(n, to int64) int64 { return (n + to - 1) / to * to }
