package introspect

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"

	"golang.org/x/sys/unix"
)

// CurrentDir is the directory descriptor that stands for the current
// directory: AT_FDCWD.
const CurrentDir int32 = -100

// maxLinks is how many symbolic links Linux follows in one path.
const maxLinks = 40

// Entry is what the host knows of a file on a share.
type Entry struct {
	Mode   fs.FileMode
	Inode  uint64
	Size   int64
	Target string // of a symbolic link
}

// Shares looks at shared directories from the host's side. Names on a share
// that the guest has not looked up yet are found there.
type Shares interface {
	// Lstat looks at a file of the share with that tag, by an absolute clean
	// path inside it. It must not leave the share.
	Lstat(tag, path string) (Entry, error)
}

// ShareFS is the file system type of a share.
const ShareFS = "virtiofs"

// cursor is where a path has led so far: a place that the guest has in memory
// and, below it on a share, names that only the host knows.
type cursor struct {
	at     place
	tag    string // of the share that at is on, "" elsewhere
	below  []string
	entry  Entry // of the last name in below, or of at
	absent bool  // the last name does not exist, as far as anyone knows
}

// Resolve finds what a path means to the task, as a system call that was given
// it with a directory descriptor would: by the guest's cache of names, its
// mounts and symbolic links, and on shares by the host's own files. It changes
// nothing in the guest. follow says whether a symbolic link at the end is
// followed.
//
// Names that neither knows, like those of files to be created, are kept as
// they are; the Location then says that it does not exist.
func (t *Task) Resolve(dir int32, name string, shares Shares, follow bool) (Location, error) {
	r := t.reader()
	loc, err := r.resolve(t.addr, dir, name, shares, follow)
	if err != nil {
		return Location{}, fmt.Errorf("path %q: %w", name, err)
	}
	return loc, nil
}

func (r *reader) resolve(task uint64, dir int32, name string, shares Shares, follow bool) (Location, error) {
	if name == "" {
		return Location{}, unix.ENOENT
	}
	root, err := r.taskPlace(task, r.layout.fsRoot)
	if err != nil {
		return Location{}, err
	}
	var c cursor
	if !strings.HasPrefix(name, "/") {
		start, err := r.start(task, dir)
		if err != nil {
			return Location{}, err
		}
		if c, err = r.on(start); err != nil {
			return Location{}, err
		}
	} else if c, err = r.on(root); err != nil {
		return Location{}, err
	}
	todo, more := name, true
	for links := 0; more; {
		var part string
		part, todo, more = strings.Cut(todo, "/")
		if part == "" || part == "." {
			continue
		}
		if part == ".." {
			if c, err = r.parent(c, root); err != nil {
				return Location{}, err
			}
			continue
		}
		if len(part) > maxName {
			return Location{}, fmt.Errorf("a name of %d bytes", len(part))
		}
		next, target, err := r.descend(c, part, shares)
		if err != nil {
			return Location{}, err
		}
		if target == "" || !more && !follow {
			c = next
			continue
		}
		if links++; links > maxLinks {
			return Location{}, errors.New("too many symbolic links")
		}
		if strings.HasPrefix(target, "/") {
			if c, err = r.on(root); err != nil {
				return Location{}, err
			}
		}
		if more {
			target += "/" + todo
		}
		todo, more = target, true
	}
	return r.location(c)
}

func (r *reader) taskPlace(task uint64, which field) (place, error) {
	fsStruct, err := r.follow(task, r.layout.taskFS)
	if err != nil {
		return place{}, err
	}
	return r.place(fsStruct + which.off)
}

// start is the place that a relative path starts from.
func (r *reader) start(task uint64, dir int32) (place, error) {
	if dir == CurrentDir {
		return r.taskPlace(task, r.layout.fsPwd)
	}
	file, err := r.file(task, dir)
	if err != nil {
		return place{}, fmt.Errorf("directory fd %d: %w", dir, err)
	}
	return r.place(file + r.layout.filePath.off)
}

func (r *reader) on(at place) (cursor, error) {
	typ, source, err := r.fileSystem(at.mount)
	if err != nil {
		return cursor{}, err
	}
	c := cursor{at: at}
	if typ == ShareFS {
		c.tag = source
	}
	return c, nil
}

// parent is what ".." means: names that only the host knows are dropped first.
func (r *reader) parent(c cursor, root place) (cursor, error) {
	if n := len(c.below); n > 0 {
		return cursor{at: c.at, tag: c.tag, below: c.below[:n-1]}, nil
	}
	if c.at == root {
		return c, nil
	}
	at, err := r.up(c.at)
	if err != nil {
		return c, err
	}
	return r.to(c, at)
}

// to goes from one place to another, which is mostly of the same file system.
func (r *reader) to(c cursor, at place) (cursor, error) {
	if at.mount == c.at.mount {
		return cursor{at: at, tag: c.tag}, nil
	}
	return r.on(at)
}

// descend goes into a name of a directory. When the name is a symbolic link,
// next is the link itself and target where it points.
func (r *reader) descend(c cursor, name string, shares Shares) (next cursor, target string, err error) {
	var dentry uint64
	if len(c.below) == 0 {
		if dentry, err = r.child(c.at.dentry, name); err != nil {
			return c, "", err
		}
	}
	if c.tag != "" && shares != nil {
		return r.descendShare(c, name, dentry, shares)
	}
	if dentry == 0 {
		return c.append(name, Entry{}, true), "", nil
	}
	if target, err = r.link(dentry); err != nil {
		return c, "", err
	}
	if target != "" {
		return cursor{at: place{c.at.mount, dentry}, tag: c.tag}, target, nil
	}
	at, err := r.enter(place{c.at.mount, dentry})
	if err != nil {
		return c, "", err
	}
	next, err = r.to(c, at)
	return next, "", err
}

// descendShare believes the host where the guest's cache differs: the guest
// itself would ask again.
func (r *reader) descendShare(c cursor, name string, dentry uint64, shares Shares) (cursor, string, error) {
	dir, err := r.inner(c.at.dentry)
	if err != nil {
		return c, "", err
	}
	inner := path.Join(dir, path.Join(c.below...), name)
	if dentry != 0 {
		// Something mounted there hides what the share has.
		at, err := r.enter(place{c.at.mount, dentry})
		if err != nil {
			return c, "", err
		}
		if at.mount != c.at.mount {
			next, err := r.on(at)
			return next, "", err
		}
	}
	entry, err := shares.Lstat(c.tag, inner)
	if err != nil {
		return c.append(name, Entry{}, true), "", nil
	}
	if entry.Mode&fs.ModeSymlink != 0 {
		return c.append(name, entry, false), entry.Target, nil
	}
	if dentry != 0 {
		inode, err := r.follow(dentry, r.layout.dentryInode)
		if err != nil {
			return c, "", err
		}
		number, err := r.uint(inode, r.layout.inodeNumber)
		if err != nil {
			return c, "", err
		}
		if number == entry.Inode {
			return cursor{at: place{c.at.mount, dentry}, tag: c.tag, entry: entry}, "", nil
		}
	}
	return c.append(name, entry, false), "", nil
}

func (c cursor) append(name string, e Entry, absent bool) cursor {
	below := append(c.below[:len(c.below):len(c.below)], name)
	return cursor{at: c.at, tag: c.tag, below: below, entry: e, absent: absent}
}

// Types of files in i_mode: include/uapi/linux/stat.h.
const (
	modeType    = 0o170000
	modeSymlink = 0o120000
)

// link reads where a symbolic link points, "" for anything else. A link whose
// target the guest does not hold in the inode cannot be followed.
func (r *reader) link(dentry uint64) (string, error) {
	inode, err := r.follow(dentry, r.layout.dentryInode)
	if err != nil {
		return "", err
	}
	mode, err := r.uint(inode, r.layout.inodeMode)
	if err != nil || mode&modeType != modeSymlink {
		return "", err
	}
	target, err := r.pointer(inode, r.layout.inodeLink)
	if err != nil {
		return "", err
	}
	if target == 0 {
		return "", errors.New("a symbolic link whose target is not in memory")
	}
	return r.cstring(target, maxPath)
}

// location completes what the guest knows with what only the host does.
func (r *reader) location(c cursor) (Location, error) {
	loc, err := r.locate(c.at)
	if err != nil {
		return Location{}, err
	}
	if c.tag != "" && c.entry.Inode != 0 {
		loc.Inode = c.entry.Inode
	}
	if len(c.below) > 0 {
		rest := path.Join(c.below...)
		loc.Path, loc.Inner = path.Join(loc.Path, rest), path.Join(loc.Inner, rest)
		loc.Inode, loc.Exists = c.entry.Inode, !c.absent
	}
	return loc, nil
}
