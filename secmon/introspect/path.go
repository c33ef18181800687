package introspect

import (
	"fmt"
	"slices"
	"strings"
)

// Location is where a file is, in three views of it.
type Location struct {
	// Path is absolute, from the root of the guest's mounts: what a task
	// without chroot calls the file.
	Path string
	// FS is the type of the file system, such as "tmpfs" or "virtiofs".
	FS string
	// Source is what was mounted: for virtiofs the share's tag.
	Source string
	// Inner is the path from the root of the file system itself, the same
	// through every mount of it.
	Inner string
	// Inode is the file's number in its file system, 0 where not known.
	Inode uint64
	// Exists says that the file was there when it was looked for. Without it
	// Path and Inner end with components that nobody could follow.
	Exists bool
}

// Bounds of the walks. Linux allows 100,000 mounts in a namespace and any
// depth of directories; both far beyond what a path of 4096 bytes can name.
const (
	maxDepth    = 2048
	maxStacked  = 64
	maxSiblings = 4096
)

// place is a struct path: a dentry seen through a mount. mount is the address
// of the struct mount, which embeds the vfsmount that struct path points to.
type place struct {
	mount, dentry uint64
}

func (r *reader) place(path uint64) (place, error) {
	vfs, err := r.follow(path, r.layout.pathMount)
	if err != nil {
		return place{}, err
	}
	dentry, err := r.follow(path, r.layout.pathDentry)
	if err != nil {
		return place{}, err
	}
	return place{vfs - r.layout.mountVFS.off, dentry}, nil
}

func (r *reader) mountRoot(mount uint64) (uint64, error) {
	return r.follow(mount+r.layout.mountVFS.off, r.layout.vfsRoot)
}

// name reads a dentry's own name.
func (r *reader) name(dentry uint64) (string, error) {
	p, err := r.nameInto(r.text[:maxName], dentry)
	return string(p), err
}

// nameInto reads a dentry's own name to the end of room.
func (r *reader) nameInto(room []byte, dentry uint64) ([]byte, error) {
	hashLen, err := r.uint(dentry, r.layout.dentryNameHash)
	if err != nil {
		return nil, err
	}
	n := hashLen >> 32
	if n > maxName || n > uint64(len(room)) {
		return nil, fmt.Errorf("%w: a name of %d bytes", ErrWalk, n)
	}
	at, err := r.follow(dentry, r.layout.dentryName)
	if err != nil {
		return nil, err
	}
	p := room[uint64(len(room))-n:]
	return p, r.read(p, at)
}

// leave goes from a mount's root to where it is mounted, as often as mounts
// are stacked there. top says that this led to the root of all mounts.
func (r *reader) leave(at place) (_ place, top bool, err error) {
	for range maxStacked {
		root, err := r.mountRoot(at.mount)
		if err != nil || at.dentry != root {
			return at, false, err
		}
		outer, err := r.follow(at.mount, r.layout.mountParent)
		if err != nil || outer == at.mount {
			return at, true, err
		}
		point, err := r.follow(at.mount, r.layout.mountPoint)
		if err != nil {
			return at, false, err
		}
		at = place{outer, point}
	}
	return at, false, fmt.Errorf("%w: mounts that lead to each other", ErrWalk)
}

// up is the directory that a place is in; the root of all is in itself.
func (r *reader) up(at place) (place, error) {
	at, top, err := r.leave(at)
	if err != nil || top {
		return at, err
	}
	at.dentry, err = r.follow(at.dentry, r.layout.dentryParent)
	return at, err
}

// absolute is the kernel's d_path: the names from the root of the mounts.
func (r *reader) absolute(at place) (string, error) {
	path, _, err := r.pathOf(at)
	return path, err
}

// pathOf is absolute. own says that it is the path inside the file system,
// too: no mount was left on the way, and all of it is mounted.
func (r *reader) pathOf(at place) (path string, own bool, err error) {
	end, mount := len(r.path), at.mount
	for range maxDepth {
		out, top, err := r.leave(at)
		if err != nil {
			return "", false, err
		}
		if top {
			above, err := r.follow(out.dentry, r.layout.dentryParent)
			return r.joined(end), out.mount == mount && above == out.dentry, err
		}
		parent, err := r.prepend(&end, out.dentry)
		if err != nil {
			return "", false, err
		}
		if parent == out.dentry {
			// A tree that is mounted nowhere: of a pipe, a socket, a memfd.
			return r.joined(end), false, nil
		}
		at = place{out.mount, parent}
	}
	return "", false, fmt.Errorf("%w: a path that does not end", ErrWalk)
}

// inner gives the names from the root of the dentry's own file system.
func (r *reader) inner(dentry uint64) (string, error) {
	end := len(r.path)
	for range maxDepth {
		parent, err := r.follow(dentry, r.layout.dentryParent)
		if err != nil {
			return "", err
		}
		if parent == dentry {
			return r.joined(end), nil
		}
		if dentry, err = r.prepend(&end, dentry); err != nil {
			return "", err
		}
	}
	return "", fmt.Errorf("%w: a directory that does not end", ErrWalk)
}

// prepend puts "/" and a dentry's name before what r.path has from end on, and
// gives the directory that the dentry is in.
func (r *reader) prepend(end *int, dentry uint64) (parent uint64, err error) {
	if *end == 0 {
		return 0, fmt.Errorf("%w: a path that does not end", ErrWalk)
	}
	p, err := r.nameInto(r.path[1:*end], dentry)
	if err != nil {
		return 0, err
	}
	*end -= len(p) + 1
	r.path[*end] = '/'
	return r.follow(dentry, r.layout.dentryParent)
}

// joined is the path that r.path has from end on.
func (r *reader) joined(end int) string {
	p := r.path[end:]
	if len(p) > 1 && p[1] == '/' {
		p = p[1:] // a tree that is mounted nowhere is itself called "/"
	}
	if len(p) == 0 {
		return "/"
	}
	return r.interned(p)
}

func joinUp(names []string) string {
	slices.Reverse(names)
	return "/" + strings.TrimPrefix(strings.Join(names, "/"), "/")
}

// fileSystem reads the type and source of a mount. Most questions are about one alone.
func (r *reader) fileSystem(mount uint64) (typ, source string, err error) {
	if mount == r.mount && mount != 0 {
		return r.fs, r.source, nil
	}
	if typ, source, err = r.readFileSystem(mount); err == nil {
		r.mount, r.fs, r.source = mount, typ, source
	}
	return typ, source, err
}

func (r *reader) readFileSystem(mount uint64) (typ, source string, err error) {
	l := r.layout
	name, err := r.follow(mount+l.mountVFS.off, l.vfsSuper, l.superType, l.fsTypeName)
	if err != nil {
		return "", "", err
	}
	if typ, err = r.cstring(name, maxName); err != nil {
		return "", "", err
	}
	device, err := r.pointer(mount, l.mountDevice)
	if err != nil || device == 0 {
		return typ, "", err
	}
	source, err = r.cstring(device, maxPath)
	return typ, source, err
}

// locate says everything about a place that the guest has in memory.
func (r *reader) locate(at place) (Location, error) {
	var loc Location
	var err error
	own := false
	if loc.Path, own, err = r.pathOf(at); err != nil {
		return Location{}, err
	}
	if loc.Inner = loc.Path; !own {
		if loc.Inner, err = r.inner(at.dentry); err != nil {
			return Location{}, err
		}
	}
	if loc.FS, loc.Source, err = r.fileSystem(at.mount); err != nil {
		return Location{}, err
	}
	inode, err := r.pointer(at.dentry, r.layout.dentryInode)
	if err != nil || inode == 0 {
		return loc, err
	}
	loc.Exists = true
	loc.Inode, err = r.uint(inode, r.layout.inodeNumber)
	return loc, err
}
