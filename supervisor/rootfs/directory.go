package rootfs

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"warder/supervisor/rootfs/erofs"
)

// directory is a tree of the host's as it was found.
type directory struct {
	root   *os.Root
	path   string
	tree   *tree
	linked map[[2]uint64]*erofs.Node // files with several names, by device and number
	device uint64
	sum    hash.Hash // of all that tells whether a file is the same
	newest int64     // the last change, in ns since 1970
	bytes  int64
	most   int64 // that there may be
}

// tick is how exactly a kernel notes when a file was changed, and more.
const tick = 50 * time.Millisecond

// readDirectory looks at all files of a directory, but for those of other file
// systems. What was changed just now is looked at again later: another change in
// the same moment could not be told from it.
func readDirectory(dir string, most int64) (*directory, error) {
	const tries = 20
	for range tries {
		d, err := scan(dir, most)
		if err != nil {
			return nil, err
		}
		age := time.Since(time.Unix(0, d.newest))
		if age > tick || age < -time.Second { // a clock that was set back is no reason to wait
			return d, nil
		}
		d.root.Close()
		time.Sleep(tick)
	}
	return nil, errors.New("its files are being changed all the time")
}

func scan(dir string, most int64) (*directory, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	d := &directory{root: root, path: dir, tree: newTree(), linked: make(map[[2]uint64]*erofs.Node), sum: sha256.New(), most: most}
	st, err := root.Lstat(".")
	if err == nil {
		d.device = uint64(st.Sys().(*syscall.Stat_t).Dev)
		var n *erofs.Node
		if n, err = d.node(".", st); err == nil {
			d.tree.root = n
			err = d.fill(".", n, 0)
		}
	}
	if err != nil {
		root.Close()
		return nil, err
	}
	return d, nil
}

// unchanged tells whether the directory is as it was when it was read.
func (d *directory) unchanged() error {
	now, err := scan(d.path, d.most)
	if err != nil {
		return err
	}
	defer now.root.Close()
	if now.digest() != d.digest() {
		return errors.New("its files were changed while they were read")
	}
	return nil
}

func (d *directory) digest() string { return hex.EncodeToString(d.sum.Sum(nil)) }

// fill looks at what a directory holds.
func (d *directory) fill(rel string, dir *erofs.Node, depth int) error {
	if depth > maxDepth {
		return fmt.Errorf("%s: more than %d directories in one another", rel, maxDepth)
	}
	f, err := d.root.Open(rel)
	if err != nil {
		return err
	}
	list, err := f.ReadDir(-1)
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	slices.SortFunc(list, func(a, b fs.DirEntry) int { return strings.Compare(a.Name(), b.Name()) })
	for _, e := range list {
		at := path.Join(rel, e.Name())
		st, err := d.root.Lstat(at)
		if err != nil {
			return err
		}
		n, err := d.node(at, st)
		if err == nil {
			err = d.tree.put(dir, e.Name(), n)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", at, err)
		}
		if st.IsDir() && uint64(st.Sys().(*syscall.Stat_t).Dev) == d.device {
			if err := d.fill(at, n, depth+1); err != nil {
				return err
			}
		}
	}
	return nil
}

// node is a file of the directory. Files of who runs this are root's in the guest.
func (d *directory) node(rel string, info fs.FileInfo) (*erofs.Node, error) {
	st := info.Sys().(*syscall.Stat_t)
	fmt.Fprintf(d.sum, "%q %o %d %d %d %d %d %d %d %d\n", rel, st.Mode, st.Uid, st.Gid, st.Size, st.Dev, st.Ino, st.Rdev,
		unix.TimespecToNsec(unix.Timespec(st.Mtim)), unix.TimespecToNsec(unix.Timespec(st.Ctim)))
	d.newest = max(d.newest, unix.TimespecToNsec(unix.Timespec(st.Ctim)))
	id := [2]uint64{uint64(st.Dev), st.Ino}
	if n := d.linked[id]; n != nil {
		return n, nil
	}
	n := &erofs.Node{
		Mode: st.Mode, UID: st.Uid, GID: st.Gid, Mtime: uint64(max(info.ModTime().Unix(), 0)),
		Major: unix.Major(uint64(st.Rdev)), Minor: unix.Minor(uint64(st.Rdev)),
	}
	if int(st.Uid) == os.Getuid() {
		n.UID = 0
	}
	if int(st.Gid) == os.Getgid() {
		n.GID = 0
	}
	var err error
	switch n.Mode & erofs.TypeMask {
	case erofs.TypeRegular:
		n.Size = st.Size
		n.Open = func() (io.ReadCloser, error) { return d.root.OpenFile(rel, os.O_RDONLY|unix.O_NONBLOCK, 0) }
		if d.bytes += n.Size; d.bytes > d.most {
			return nil, fmt.Errorf("%w: the files in %s have more than %d MiB", errTooLarge, d.path, d.most>>20)
		}
	case erofs.TypeSymlink:
		n.Target, err = d.root.Readlink(rel)
	case erofs.TypeDir:
		n.Children = make(map[string]*erofs.Node)
	}
	if err == nil {
		n.Xattrs, err = xattrs(filepath.Join(d.path, rel))
	}
	if st.Nlink > 1 && !n.IsDir() {
		d.linked[id] = n
	}
	return n, err
}

// xattrs reads those attributes of a file that an image can have.
func xattrs(file string) (map[string]string, error) {
	const most = 64 << 10 // XATTR_LIST_MAX, XATTR_SIZE_MAX
	n, err := unix.Llistxattr(file, nil)
	if n <= 0 || err != nil {
		if errors.Is(err, unix.ENOTSUP) {
			err = nil
		}
		return nil, err
	}
	buf := make([]byte, most)
	if n, err = unix.Llistxattr(file, buf); err != nil {
		return nil, err
	}
	found := make(map[string]string)
	for name := range strings.SplitSeq(string(buf[:n]), "\x00") {
		if !erofs.HasXattr(name) || strings.HasPrefix(name, "trusted.") || name == "security.selinux" {
			continue // of the host's, not of the tree
		}
		n, err := unix.Lgetxattr(file, name, buf)
		if err != nil {
			return nil, err
		}
		found[name] = string(buf[:n])
	}
	return found, erofs.CheckXattrs(found)
}
