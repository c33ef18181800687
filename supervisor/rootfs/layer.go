package rootfs

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"strings"

	"warder/supervisor/rootfs/erofs"
)

// A builder lays the layers of an image over one another. What their files hold
// goes to a file of the host, so that memory has the tree alone.
type builder struct {
	tree    *tree
	spool   spool
	used    int64 // bytes of it
	most    int64 // that may be used
	skipped int   // attributes that an image cannot have
}

// spool is a file that is written and then read.
type spool interface {
	io.ReaderAt
	io.WriterAt
}

// whiteout is what the name of an entry begins with that takes one away; opaque
// is one that takes away all that a directory had. Other names that begin with
// the prefix twice are notes of a file system.
const (
	whiteout = ".wh."
	opaque   = ".wh..wh..opq"
	notes    = ".wh..wh."
)

// errTooLarge is for an image of more than its bytes.
var errTooLarge = errors.New("too large")

// layer lays a tar archive over what there is.
func (b *builder) layer(ctx context.Context, r io.Reader) error {
	b.tree.nextLayer()
	for tr := tar.NewReader(r); ; {
		h, err := tr.Next()
		if err == io.EOF {
			return nil
		}
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			return err
		}
		if err := b.entry(h, tr); err != nil {
			return fmt.Errorf("%q: %w", clip(h.Name), err)
		}
	}
}

// entry lays one entry of an archive over what there is.
func (b *builder) entry(h *tar.Header, content io.Reader) error {
	if h.Typeflag == tar.TypeXGlobalHeader {
		return nil
	}
	parts, err := split(h.Name)
	if err != nil {
		return err
	}
	if len(parts) == 0 {
		if h.Typeflag != tar.TypeDir {
			return errors.New("the root is no directory")
		}
		root, err := b.node(h)
		if err != nil {
			return err
		}
		root.Children = b.tree.root.Children
		*b.tree.root = *root
		return nil
	}
	name := parts[len(parts)-1]
	if strings.HasPrefix(name, whiteout) {
		return b.takeAway(parts[:len(parts)-1], name)
	}
	dir, err := b.tree.dir(parts[:len(parts)-1], true)
	if err != nil {
		return err
	}
	if h.Typeflag == tar.TypeLink {
		return b.link(dir, name, h.Linkname)
	}
	n, err := b.node(h)
	if err != nil {
		return err
	}
	if n.Mode&erofs.TypeMask == erofs.TypeRegular {
		if err := b.keep(n, h.Size, content); err != nil {
			return err
		}
	}
	return b.tree.put(dir, name, n)
}

func (b *builder) takeAway(parent []string, name string) error {
	dir, err := b.tree.dir(parent, false)
	if err != nil || dir == nil {
		return err
	}
	target := strings.TrimPrefix(name, whiteout)
	switch {
	case name == opaque:
		b.tree.clear(dir)
	case strings.HasPrefix(name, notes):
	case target == "" || target == "." || target == "..":
		return errors.New("it takes away what cannot be named")
	default:
		b.tree.remove(dir, target)
	}
	return nil
}

// link gives a file one more name.
func (b *builder) link(dir *erofs.Node, name, target string) error {
	parts, err := split(target)
	if err != nil {
		return fmt.Errorf("link to %q: %w", clip(target), err)
	}
	var n *erofs.Node
	if last := len(parts) - 1; last >= 0 {
		from, err := b.tree.dir(parts[:last], false)
		if err != nil {
			return fmt.Errorf("link to %q: %w", clip(target), err)
		}
		if from != nil {
			n = from.Children[parts[last]]
		}
	}
	switch {
	case n == nil:
		return fmt.Errorf("link to %q: there is no such file", clip(target))
	case n.IsDir():
		return fmt.Errorf("link to %q: that is a directory", clip(target))
	}
	return b.tree.put(dir, name, n)
}

// kinds are of what archives have, and images can.
var kinds = map[byte]uint32{
	tar.TypeReg: erofs.TypeRegular, tar.TypeDir: erofs.TypeDir, tar.TypeSymlink: erofs.TypeSymlink,
	tar.TypeChar: erofs.TypeChar, tar.TypeBlock: erofs.TypeBlock, tar.TypeFifo: erofs.TypeFIFO,
	'\x00': erofs.TypeRegular, tar.TypeCont: erofs.TypeRegular, tar.TypeGNUSparse: erofs.TypeRegular,
}

// node is what an entry says of its file, but for the content.
func (b *builder) node(h *tar.Header) (*erofs.Node, error) {
	kind, ok := kinds[h.Typeflag]
	if !ok {
		return nil, fmt.Errorf("entries of type %q are not for images", h.Typeflag)
	}
	const maxMajor, maxMinor = 1<<12 - 1, 1<<20 - 1
	switch {
	case h.Uid < 0 || int64(h.Uid) >= math.MaxUint32 || h.Gid < 0 || int64(h.Gid) >= math.MaxUint32:
		return nil, fmt.Errorf("owner %d:%d: there is no such", h.Uid, h.Gid)
	case h.Devmajor < 0 || h.Devmajor > maxMajor || h.Devminor < 0 || h.Devminor > maxMinor:
		return nil, fmt.Errorf("device %d, %d: there is no such", h.Devmajor, h.Devminor)
	}
	n := &erofs.Node{
		Mode: kind | uint32(h.Mode)&0o7777, UID: uint32(h.Uid), GID: uint32(h.Gid),
		Mtime: uint64(max(h.ModTime.Unix(), 0)),
	}
	switch kind {
	case erofs.TypeDir:
		n.Children = make(map[string]*erofs.Node)
	case erofs.TypeChar, erofs.TypeBlock:
		n.Major, n.Minor = uint32(h.Devmajor), uint32(h.Devminor)
	case erofs.TypeSymlink:
		if h.Linkname == "" || len(h.Linkname) > erofs.MaxTarget || strings.ContainsRune(h.Linkname, 0) {
			return nil, fmt.Errorf("a symbolic link to %q", clip(h.Linkname))
		}
		n.Target = h.Linkname
	}
	const paxXattr = "SCHILY.xattr."
	for key, value := range h.PAXRecords {
		name, ok := strings.CutPrefix(key, paxXattr)
		if !ok {
			continue
		}
		// What overlayfs keeps in them is not for an image to say.
		if !erofs.HasXattr(name) || strings.HasPrefix(name, "trusted.overlay.") || strings.HasPrefix(name, "user.overlay.") {
			b.skipped++
			continue
		}
		if n.Xattrs == nil {
			n.Xattrs = make(map[string]string)
		}
		n.Xattrs[name] = value
	}
	return n, erofs.CheckXattrs(n.Xattrs)
}

// keep copies what a file holds.
func (b *builder) keep(n *erofs.Node, size int64, content io.Reader) error {
	if size > b.most-b.used {
		return fmt.Errorf("%w: the image's files have more than %d MiB", errTooLarge, b.most>>20)
	}
	if size == 0 {
		return nil
	}
	got, err := io.Copy(io.NewOffsetWriter(b.spool, b.used), io.LimitReader(content, size))
	if err == nil && got != size {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		return err
	}
	at := b.used
	n.Size, n.Open = size, func() (io.ReadCloser, error) { return io.NopCloser(io.NewSectionReader(b.spool, at, size)), nil }
	b.used += size
	return nil
}

// clip is as much of a text as an error quotes.
func clip(s string) string {
	const most = 100
	if len(s) > most {
		return s[:most] + "..."
	}
	return s
}
