package fs

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

func TestFileRoundTrip(t *testing.T) {
	share, _ := tree(t)
	g := mount(t, Config{Dir: share})
	e, h, errno := g.create(rootID, "file", unix.O_RDWR, 0o640)
	if errno != 0 || e.mode != unix.S_IFREG|0o640 {
		t.Fatalf("create: %+v, %v", e, errno)
	}
	if n, errno := g.write(e.node, h, 0, "hello, world", 0); n != 12 || errno != 0 {
		t.Fatalf("write: %d, %v", n, errno)
	}
	if n, errno := g.write(e.node, h, 7, "w", unix.O_APPEND); n != 1 || errno != 0 {
		t.Fatalf("append: %d, %v", n, errno)
	}
	if got, errno := g.read(e.node, h, 7, 100); got != "worldw" || errno != 0 {
		t.Errorf("read: %q, %v", got, errno)
	}
	if got, errno := g.read(e.node, h, 100, 100); got != "" || errno != 0 {
		t.Errorf("read beyond the end: %q, %v", got, errno)
	}
	if got := get(t, filepath.Join(share, "file")); got != "hello, worldw" {
		t.Errorf("the host reads %q", got)
	}
	var st unix.Stat_t
	if err := unix.Stat(filepath.Join(share, "file"), &st); err != nil {
		t.Fatal(err)
	}
	want := entry{node: e.node, ino: st.Ino, size: 13, mode: st.Mode, nlink: 1, uid: st.Uid, gid: st.Gid}
	if got, _ := g.getattr(e.node); got != want {
		t.Errorf("attributes %+v, want %+v", got, want)
	}

	for _, op := range []opcode{opFlush, opFsync} {
		if _, errno := g.ask(op, e.node, cat(h, 0, 0, uint64(0))); errno != 0 {
			t.Errorf("opcode %d: %v", op, errno)
		}
	}
	if _, errno := g.ask(opFsync, e.node, cat(h, 1, 0)); errno != 0 {
		t.Errorf("fdatasync: %v", errno)
	}
	if _, errno := g.ask(opSyncfs, rootID, zeros(8)); errno != 0 {
		t.Errorf("syncfs: %v", errno)
	}
	if got, errno := g.setattr(e.node, change{valid: setSize | setHandle, handle: h, size: 5}); errno != 0 || got.size != 5 {
		t.Errorf("ftruncate: %+v, %v", got, errno)
	}
	if got, errno := g.setattr(e.node, change{valid: setSize, size: 3}); errno != 0 || got.size != 3 {
		t.Errorf("truncate: %+v, %v", got, errno)
	}
	if _, errno := g.ask(opFallocate, e.node, cat(h, uint64(0), uint64(8192), 0, 0)); errno != 0 {
		t.Errorf("fallocate: %v", errno)
	}
	if _, errno := g.ask(opFallocate, e.node, cat(h, uint64(0), uint64(8192), 0x40, 0)); errno != unix.EOPNOTSUPP {
		t.Errorf("fallocate with unknown mode: %v", errno)
	}
	if got, _ := g.getattr(e.node); got.size != 8192 {
		t.Errorf("size %d after fallocate", got.size)
	}
	if b, errno := g.ask(opLseek, e.node, cat(h, uint64(0), unix.SEEK_HOLE, 0)); errno != 0 || le.Uint64(b) > 8192 {
		t.Errorf("lseek: %v, %v", b, errno)
	}
	if _, errno := g.ask(opLseek, e.node, cat(h, uint64(0), unix.SEEK_END, 0)); errno != unix.EINVAL {
		t.Errorf("lseek to the end: %v", errno)
	}
	if errno := g.release(opRelease, e.node, h); errno != 0 {
		t.Error(errno)
	}
	if got, errno := g.slurp(e.node); errno != 0 || got[:3] != "hel" {
		t.Errorf("read again: %q, %v", got, errno)
	}
	if h, errno := g.open(e.node, unix.O_WRONLY|unix.O_TRUNC); errno != 0 {
		t.Error(errno)
	} else if got, _ := g.getattr(e.node); got.size != 0 {
		t.Errorf("size %d after O_TRUNC", got.size)
	} else {
		g.release(opRelease, e.node, h)
	}
}

// TestCreateOfWhatIsThere opens it, and tells what it is afterwards.
func TestCreateOfWhatIsThere(t *testing.T) {
	share, _ := tree(t)
	put(t, filepath.Join(share, "file"), "content")
	g := mount(t, Config{Dir: share})
	known := g.find(rootID, "file")
	e, h, errno := g.create(rootID, "file", unix.O_RDWR, 0o600)
	if errno != 0 || e != known {
		t.Fatalf("create: %+v, %v; want %+v", e, errno, known)
	}
	if got, errno := g.read(e.node, h, 0, 100); got != "content" || errno != 0 {
		t.Errorf("read: %q, %v", got, errno)
	}
	if e, _, errno := g.create(rootID, "file", unix.O_WRONLY|unix.O_TRUNC, 0o600); errno != 0 || e.size != 0 || e.node != known.node {
		t.Errorf("create with O_TRUNC: %+v, %v", e, errno)
	}
	if _, _, errno := g.create(rootID, "file", unix.O_RDWR|unix.O_EXCL, 0o600); errno != unix.EEXIST {
		t.Errorf("create with O_EXCL: %v", errno)
	}
	if _, _, errno := g.create(rootID, "file", unix.O_ACCMODE, 0o600); errno != unix.EINVAL {
		t.Errorf("create with no access mode: %v", errno)
	}
	if _, errno := g.open(known.node, unix.O_ACCMODE); errno != unix.EINVAL {
		t.Errorf("open with no access mode: %v", errno)
	}
}

func TestCopyFileRange(t *testing.T) {
	share, _ := tree(t)
	put(t, filepath.Join(share, "from"), "0123456789")
	g := mount(t, Config{Dir: share})
	from := g.find(rootID, "from")
	hf := must[uint64](g)(g.open(from.node, unix.O_RDONLY))
	to, ht, errno := g.create(rootID, "to", unix.O_WRONLY, 0o644)
	if errno != 0 {
		t.Fatal(errno)
	}
	args := cat(hf, uint64(2), to.node, ht, uint64(1), uint64(5), uint64(0))
	if b, errno := g.ask(opCopyFileRange, from.node, args); errno != 0 || le.Uint32(b) != 5 {
		t.Fatalf("copied %v, %v", b, errno)
	}
	if got := get(t, filepath.Join(share, "to")); got != "\x0023456" {
		t.Errorf("the copy is %q", got)
	}
	args = cat(ht, uint64(0), from.node, hf, uint64(0), uint64(5), uint64(0))
	if _, errno := g.ask(opCopyFileRange, to.node, args); errno != unix.EBADF {
		t.Errorf("copy to a file open for reading: %v", errno)
	}
}

func TestEntries(t *testing.T) {
	share, _ := tree(t)
	g := mount(t, Config{Dir: share})
	ok := func(what string, errno unix.Errno) {
		t.Helper()
		if errno != 0 {
			t.Errorf("%s: %v", what, errno)
		}
	}
	d, errno := g.askEntry(opMkdir, rootID, cat(0o750, 0, "dir\x00"))
	ok("mkdir", errno)
	f, errno := g.askEntry(opMknod, d.node, cat(unix.S_IFREG|0o600, 0, 0, 0, "file\x00"))
	ok("mknod", errno)
	l, errno := g.askEntry(opLink, rootID, cat(f.node, "link\x00"))
	ok("link", errno)
	if l.node != f.node || l.nlink != 2 {
		t.Errorf("link is %+v, want node %d", l, f.node)
	}
	s, errno := g.askEntry(opSymlink, d.node, cat("soft\x00", "../link\x00"))
	ok("symlink", errno)
	if b, errno := g.ask(opReadlink, s.node, nil); errno != 0 || string(b) != "../link" {
		t.Errorf("readlink: %q, %v", b, errno)
	}
	if b, errno := g.askRoom(opReadlink, s.node, nil, 3); errno != 0 || string(b) != "../" {
		t.Errorf("readlink with little room: %q, %v", b, errno)
	}
	_, errno = g.ask(opRename, d.node, cat(uint64(rootID), "soft\x00moved\x00"))
	ok("rename", errno)
	if _, errno = g.ask(opRename2, rootID, cat(d.node, unix.RENAME_NOREPLACE, 0, "moved\x00file\x00")); errno != unix.EEXIST {
		t.Errorf("rename over a file: %v", errno)
	}
	_, errno = g.ask(opRename2, rootID, cat(d.node, unix.RENAME_EXCHANGE, 0, "moved\x00file\x00"))
	ok("exchange", errno)
	if got := g.find(d.node, "file"); got.node != s.node {
		t.Errorf("after the exchange dir/file is %+v", got)
	}
	if _, errno = g.ask(opRename, rootID, cat(d.node, "dir\x00loop\x00")); errno != unix.EINVAL {
		t.Errorf("rename of a directory into itself: %v", errno)
	}
	if _, errno = g.ask(opRmdir, rootID, cat("dir\x00")); errno != unix.ENOTEMPTY {
		t.Errorf("rmdir of a full directory: %v", errno)
	}
	if _, errno = g.ask(opUnlink, rootID, cat("dir\x00")); errno != unix.EISDIR {
		t.Errorf("unlink of a directory: %v", errno)
	}
	_, errno = g.ask(opUnlink, d.node, cat("file\x00"))
	ok("unlink", errno)
	_, errno = g.ask(opRmdir, rootID, cat("dir\x00"))
	ok("rmdir", errno)
	if _, errno := g.lookup(rootID, "dir"); errno != unix.ENOENT {
		t.Errorf("lookup of what is gone: %v", errno)
	}
	got := g.listing(opReaddir, rootID, 4096)
	slices.Sort(got)
	if diff := cmp.Diff([]string{".", "..", "link", "moved"}, got); diff != "" {
		t.Errorf("what is left (-want +got):\n%s", diff)
	}
}

func TestListings(t *testing.T) {
	share, _ := tree(t)
	want := []string{".", ".."}
	for i := range 300 {
		name := fmt.Sprintf("%d-%s", i, strings.Repeat("x", i%200))
		put(t, filepath.Join(share, name), "")
		want = append(want, name)
	}
	slices.Sort(want)
	g := mount(t, Config{Dir: share})
	for _, size := range []int{512, 4096, 1 << 20} {
		for _, op := range []opcode{opReaddir, opReaddirplus} {
			got := g.listing(op, rootID, size)
			slices.Sort(got)
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("opcode %d with %d bytes (-want +got):\n%s", op, size, diff)
			}
		}
	}
	// Each listing with lookups gave one reference for every entry: three, of 300.
	if got := len(g.s.nodes.byID); got != 301 {
		t.Errorf("%d nodes, want 301", got)
	}
	e := g.find(rootID, want[5])
	g.forget(e.node, 3)
	if _, errno := g.getattr(e.node); errno != 0 {
		t.Errorf("with one reference left: %v", errno)
	}
	g.forget(e.node, 1)
	if _, errno := g.getattr(e.node); errno != unix.ESTALE {
		t.Errorf("with none left: %v", errno)
	}
	h := must[uint64](g)(g.opendir(rootID))
	if _, errno := g.ask(opReaddir, rootID, readArgs(h, 0, 16)); errno != unix.EINVAL {
		t.Errorf("listing without room: %v", errno)
	}
	if _, errno := g.ask(opReaddir, rootID, readArgs(h, 1<<63, 4096)); errno != unix.EINVAL {
		t.Errorf("listing from a negative position: %v", errno)
	}
	if _, errno := g.ask(opFsyncdir, rootID, cat(h, 0, 0)); errno != 0 {
		t.Errorf("fsyncdir: %v", errno)
	}
}

// TestRootHasNoParent: the directory above the share is not even a number.
func TestRootHasNoParent(t *testing.T) {
	share, _ := tree(t)
	g := mount(t, Config{Dir: share})
	h := must[uint64](g)(g.opendir(rootID))
	own, _ := g.getattr(rootID)
	b, errno := g.ask(opReaddir, rootID, readArgs(h, 0, 4096))
	if errno != 0 {
		t.Fatal(errno)
	}
	for len(b) > 0 {
		if got := le.Uint64(b); got != own.ino {
			t.Errorf("entry has inode %d, want that of the root, %d", got, own.ino)
		}
		b = b[direntSize+(int(le.Uint32(b[16:]))+7)&^7:]
	}
}

func TestAttributes(t *testing.T) {
	share, _ := tree(t)
	path := filepath.Join(share, "file")
	put(t, path, "x")
	g := mount(t, Config{Dir: share})
	e := g.find(rootID, "file")
	if got, errno := g.setattr(e.node, change{valid: setMode, mode: 0o604}); errno != 0 || got.mode&0o7777 != 0o604 {
		t.Errorf("chmod: %+v, %v", got, errno)
	}
	at, mt := unix.Timespec{Sec: 1, Nsec: 2}, unix.Timespec{Sec: 3, Nsec: 4}
	if _, errno := g.setattr(e.node, change{valid: setAtime | setMtime, atime: at, mtime: mt}); errno != 0 {
		t.Error(errno)
	}
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil || st.Atim != at || st.Mtim != mt {
		t.Errorf("times %v, %v; %v", st.Atim, st.Mtim, err)
	}
	// The host's own marks are not for the guest to give.
	odd := unix.Timespec{Sec: 5, Nsec: unix.UTIME_NOW}
	if _, errno := g.setattr(e.node, change{valid: setMtime, mtime: odd}); errno != 0 {
		t.Error(errno)
	}
	if err := unix.Stat(path, &st); err != nil || st.Mtim.Sec != 5 || st.Atim != at {
		t.Errorf("times %v, %v; %v", st.Atim, st.Mtim, err)
	}
	if _, errno := g.setattr(e.node, change{valid: setMtime | setMtimeNow}); errno != 0 {
		t.Error(errno)
	}
	if err := unix.Stat(path, &st); err != nil || time.Since(time.Unix(st.Mtim.Unix())).Abs() > time.Minute {
		t.Errorf("modified at %v; %v", st.Mtim, err)
	}

	// Owners stay, unless the host allows otherwise.
	if _, errno := g.setattr(e.node, change{valid: setUID | setGID, uid: st.Uid, gid: st.Gid}); errno != 0 {
		t.Errorf("chown to the same: %v", errno)
	}
	for _, a := range []change{{valid: setUID, uid: st.Uid + 1}, {valid: setGID, gid: st.Gid + 1}} {
		if _, errno := g.setattr(e.node, a); errno != unix.EPERM {
			t.Errorf("chown %+v: %v", a, errno)
		}
	}
	generous := mount(t, Config{Dir: share, AllowOwner: true})
	e = generous.find(rootID, "file")
	want := unix.Chown(path, int(st.Uid)+1, -1) // what this process can do
	if _, errno := generous.setattr(e.node, change{valid: setUID, uid: st.Uid + 2}); (errno == 0) != (want == nil) {
		t.Errorf("allowed chown: %v, the process itself: %v", errno, want)
	}

	b, errno := g.ask(opStatfs, rootID, nil)
	var fs unix.Statfs_t
	if err := unix.Statfs(share, &fs); err != nil || errno != 0 {
		t.Fatal(err, errno)
	}
	if le.Uint64(b) != fs.Blocks || le.Uint32(b[40:]) != uint32(fs.Bsize) || le.Uint32(b[44:]) != uint32(fs.Namelen) {
		t.Errorf("statfs % x", b)
	}
}
