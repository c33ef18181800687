package introspect

import (
	"fmt"
	"testing"
)

// world is a guest's memory with kernel structures in it that tests make. Only
// pages that hold something are mapped.
type world struct {
	pages map[uint64]*[4096]byte
	next  uint64
	*Guest
	task  uint64
	table uint64 // of the dentry cache
	reads int
}

const (
	hashBits    = 4
	unmapped    = 0xffff_dead_0000_0000
	worldStart  = 0xffff_8880_0000_0000
	inodeOf     = 1000 // the numbers of inodes count from here
	regularFile = 0o100644
	directory   = 0o040755
)

// testLayout lays structures out as no kernel does: each field in its own
// place, so that a mixed-up offset shows.
func testLayout() *layout {
	l := &layout{}
	off := uint64(0)
	take := func(size uint64, fields ...*field) {
		for _, f := range fields {
			off += 8
			*f = field{off, size}
			off += size
		}
	}
	structure := func(sizes func()) { off = 0; sizes() }
	structure(func() {
		take(4, &l.taskPID, &l.taskTGID)
		take(16, &l.taskComm)
		take(8, &l.taskParent, &l.taskCred, &l.taskFiles, &l.taskFS, &l.taskNamespaces)
	})
	structure(func() { take(4, &l.credUID, &l.credEUID) })
	structure(func() { take(32, &l.fsRoot, &l.fsPwd) })
	structure(func() { take(8, &l.filesTable) })
	structure(func() { take(4, &l.tableMax); take(8, &l.tableFiles) })
	structure(func() { take(32, &l.filePath); take(8, &l.fileInode, &l.filePos); take(4, &l.fileFlags) })
	structure(func() { take(8, &l.pathMount, &l.pathDentry) })
	structure(func() {
		take(8, &l.dentryParent, &l.dentryNameHash, &l.dentryName, &l.dentryInode)
		take(16, &l.dentryHash)
	})
	structure(func() {
		take(32, &l.mountVFS)
		take(8, &l.mountParent, &l.mountPoint)
		take(16, &l.mountChildren, &l.mountChild)
		take(8, &l.mountDevice)
	})
	structure(func() { take(8, &l.vfsRoot, &l.vfsSuper) })
	structure(func() { take(8, &l.superType) })
	structure(func() { take(8, &l.fsTypeName) })
	structure(func() { take(2, &l.inodeMode); take(8, &l.inodeNumber, &l.inodeSize, &l.inodeLink) })
	structure(func() { take(8, &l.programFile, &l.programName) })
	l.bucketFirst, l.nodeNext = field{0, 8}, field{0, 8}
	l.ptRegs = field{0, 512}
	for abi := range l.calls {
		structure(func() {
			off = uint64(abi) * 256
			for i := range l.calls[abi].arg {
				take(8, &l.calls[abi].arg[i])
			}
			take(8, &l.calls[abi].number)
		})
	}
	return l
}

func newWorld() *world {
	w := &world{pages: make(map[uint64]*[4096]byte), next: worldStart}
	k := &Kernel{arch: "arm64", symbols: newSymbols(nil), layout: testLayout()}
	w.Guest = &Guest{Kernel: k}
	w.table = w.alloc(8 << hashBits)
	w.dentryHash, w.dentryHashLog = w.alloc(8), w.alloc(8)
	w.set(w.dentryHash, field{0, 8}, w.table)
	w.set(w.dentryHashLog, field{0, 4}, 32-hashBits)
	w.task = w.alloc(512)
	return w
}

// alloc gives fresh memory, filled with zeros.
func (w *world) alloc(n uint64) uint64 {
	at := w.next
	w.next = (w.next + n + 15) &^ 15
	for page := at &^ 4095; page < w.next; page += 4096 {
		if w.pages[page] == nil {
			w.pages[page] = new([4096]byte)
		}
	}
	return at
}

func (w *world) ReadAt(p []byte, va uint64) error {
	w.reads++
	for i := range p {
		page := w.pages[(va+uint64(i))&^4095]
		if page == nil {
			return fmt.Errorf("nothing at %#x", va+uint64(i))
		}
		p[i] = page[(va+uint64(i))&4095]
	}
	return nil
}

func (w *world) write(va uint64, p []byte) {
	for i, b := range p {
		w.pages[(va+uint64(i))&^4095][(va+uint64(i))&4095] = b
	}
}

func (w *world) set(base uint64, f field, v uint64) {
	var p [8]byte
	le.PutUint64(p[:], v)
	w.write(base+f.off, p[:min(f.size, 8)])
}

func (w *world) str(s string) uint64 {
	at := w.alloc(uint64(len(s)) + 1)
	w.write(at, []byte(s))
	return at
}

// fileSystem mounts a new file system: its root and its mount.
func (w *world) fileSystem(typ, source string) place {
	l := w.layout
	root := w.dentry(0, "/", directory)
	super, kind, mount := w.alloc(64), w.alloc(64), w.alloc(256)
	w.set(kind, l.fsTypeName, w.str(typ))
	w.set(super, l.superType, kind)
	w.set(mount+l.mountVFS.off, l.vfsRoot, root)
	w.set(mount+l.mountVFS.off, l.vfsSuper, super)
	w.set(mount, l.mountParent, mount)
	w.set(mount, l.mountPoint, root)
	w.set(mount, l.mountDevice, w.str(source))
	head := mount + l.mountChildren.off
	w.set(head, field{0, 8}, head)
	return place{mount, root}
}

// mountOn attaches a mount to a place.
func (w *world) mountOn(inner, at place) {
	l := w.layout
	w.set(inner.mount, l.mountParent, at.mount)
	w.set(inner.mount, l.mountPoint, at.dentry)
	head := at.mount + l.mountChildren.off
	first := w.get(head, field{0, 8})
	w.set(inner.mount+l.mountChild.off, field{0, 8}, first)
	w.set(head, field{0, 8}, inner.mount+l.mountChild.off)
}

func (w *world) get(base uint64, f field) uint64 {
	var p [8]byte
	if err := w.ReadAt(p[:f.size], base+f.off); err != nil {
		panic(err)
	}
	return le.Uint64(p[:])
}

// dentry makes a name in a directory, known to the cache; parent 0 makes a root.
func (w *world) dentry(parent uint64, name string, mode uint64) uint64 {
	l := w.layout
	d := w.alloc(128)
	if parent == 0 {
		parent = d
	}
	hash := nameHash(parent, name)
	w.set(d, l.dentryParent, parent)
	w.set(d, l.dentryNameHash, uint64(len(name))<<32|uint64(hash))
	w.set(d, l.dentryName, w.str(name))
	inode := w.alloc(64)
	w.set(inode, l.inodeMode, mode)
	w.set(inode, l.inodeNumber, inodeOf+(d-worldStart)/16)
	w.set(d, l.dentryInode, inode)
	bucket := w.table + 8*uint64(hash>>(32-hashBits))
	node := d + l.dentryHash.off
	w.set(node, l.nodeNext, w.get(bucket, field{0, 8})&^1)
	w.set(bucket, field{0, 8}, node|1) // somebody holds the chain's lock
	return d
}

func (w *world) number(dentry uint64) uint64 { return inodeOf + (dentry-worldStart)/16 }

func (w *world) symlink(parent uint64, name, target string) uint64 {
	d := w.dentry(parent, name, modeSymlink|0o777)
	w.set(w.get(d, w.layout.dentryInode), w.layout.inodeLink, w.str(target))
	return d
}

// setPath fills in a struct path.
func (w *world) setPath(at uint64, p place) {
	w.set(at, w.layout.pathMount, p.mount+w.layout.mountVFS.off)
	w.set(at, w.layout.pathDentry, p.dentry)
}

// process gives the task an identity, a root, a directory and open files.
func (w *world) process(root, pwd place, files ...uint64) {
	l := w.layout
	w.set(w.task, l.taskPID, 42)
	w.set(w.task, l.taskTGID, 41)
	w.write(w.task+l.taskComm.off, []byte("a task\x00garbage"))
	parent, cred, fs, table, fdt := w.alloc(512), w.alloc(64), w.alloc(128), w.alloc(64), w.alloc(64)
	w.set(parent, l.taskTGID, 7)
	w.set(w.task, l.taskParent, parent)
	w.set(w.task, l.taskCred, cred)
	w.set(cred, l.credUID, 1000)
	w.set(cred, l.credEUID, 0)
	w.set(w.task, l.taskFS, fs)
	w.setPath(fs+l.fsRoot.off, root)
	w.setPath(fs+l.fsPwd.off, pwd)
	w.set(w.task, l.taskFiles, table)
	w.set(table, l.filesTable, fdt)
	slots := w.alloc(8 * 16)
	w.set(fdt, l.tableMax, 16)
	w.set(fdt, l.tableFiles, slots)
	for fd, f := range files {
		w.set(slots, field{8 * uint64(fd), 8}, f)
	}
}

func (w *world) open(at place, pos, flags, size uint64) uint64 {
	l := w.layout
	f := w.alloc(128)
	inode := w.get(at.dentry, l.dentryInode)
	w.setPath(f+l.filePath.off, at)
	w.set(f, l.fileInode, inode)
	w.set(f, l.filePos, pos)
	w.set(f, l.fileFlags, flags)
	w.set(inode, l.inodeSize, size)
	return f
}

// current is the world's task as introspection finds it.
func (w *world) current(t testing.TB) *Task {
	t.Helper()
	task, err := w.Current(w, w.task)
	if err != nil {
		t.Fatal(err)
	}
	return task
}

// town is a world with a bit of everything:
//
//	/                      tmpfs
//	/tmp/dir/deep          directories; the task's is /tmp/dir
//	/tmp/link -> /mnt/share/tool, /tmp/dir/rel -> ../../mnt/share, /loop -> loop
//	/mnt/share             virtiofs "files" with tool and sub in the cache
//	/mnt/share/sub         tmpfs mounted over it, with a file
//	/bound                 the directory /tmp/dir again, as a bind mount
type town struct {
	*world
	root, share, over, bound         place
	tmp, dir, deep, tool, sub, inner uint64
}

func newTown() *town {
	w := newWorld()
	n := &town{world: w}
	n.root = w.fileSystem("tmpfs", "rootfs")
	n.share = w.fileSystem(ShareFS, "files")
	n.over = w.fileSystem("tmpfs", "over")
	n.tmp = w.dentry(n.root.dentry, "tmp", directory)
	n.dir = w.dentry(n.tmp, "dir", directory)
	n.deep = w.dentry(n.dir, "deep", directory)
	w.symlink(n.tmp, "link", "/mnt/share/tool")
	w.symlink(n.dir, "rel", "../../mnt/share")
	w.symlink(n.root.dentry, "loop", "loop")
	mnt := w.dentry(n.root.dentry, "mnt", directory)
	point := w.dentry(mnt, "share", directory)
	n.tool = w.dentry(n.share.dentry, "tool", regularFile)
	n.sub = w.dentry(n.share.dentry, "sub", directory)
	n.inner = w.dentry(n.over.dentry, "a file with a name longer than eight", regularFile)
	boundAt := w.dentry(n.root.dentry, "bound", directory)
	w.mountOn(n.share, place{n.root.mount, point})
	w.mountOn(n.over, place{n.share.mount, n.sub})
	n.bound = w.fileSystem("tmpfs", "rootfs")
	w.set(n.bound.mount+w.layout.mountVFS.off, w.layout.vfsRoot, n.dir)
	n.bound.dentry = n.dir
	w.mountOn(n.bound, place{n.root.mount, boundAt})
	w.process(n.root, place{n.root.mount, n.dir},
		w.open(place{n.share.mount, n.tool}, 5, 0o2001, 99),
		w.open(place{n.bound.mount, n.deep}, 0, 0o200000, 0),
		0,
		w.open(n.share, 0, 0o200000, 0))
	return n
}
