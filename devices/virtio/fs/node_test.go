package fs

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// forgetful mounts a share whose nodes lose their descriptors as soon as nobody uses
// them.
func forgetful(t *testing.T, share string) guest {
	g := mount(t, Config{Dir: share})
	g.s.nodes.maxPinned = 0
	return g
}

func hostDo(t *testing.T, errs ...error) {
	t.Helper()
	for _, err := range errs {
		if err != nil {
			t.Fatal(err)
		}
	}
}

func TestMoreFilesThanDescriptors(t *testing.T) {
	share, _ := tree(t)
	g := mount(t, Config{Dir: share, MaxPinned: 4})
	var all []entry
	for i := range 100 {
		d := must[entry](g)(g.askEntry(opMkdir, rootID, cat(0o755, 0, fmt.Sprintf("dir%d\x00", i))))
		e, h, errno := g.create(d.node, "file", unix.O_WRONLY, 0o644)
		if errno != 0 {
			t.Fatal(errno)
		}
		g.write(e.node, h, 0, fmt.Sprint(i), 0)
		g.release(opRelease, e.node, h)
		all = append(all, e)
	}
	if n := g.s.nodes.pinned; n != 4 {
		t.Errorf("%d nodes pinned, want 4", n)
	}
	for i, e := range all {
		if got, errno := g.slurp(e.node); errno != 0 || got != fmt.Sprint(i) {
			t.Errorf("file %d: %q, %v", i, got, errno)
		}
		if again, errno := g.getattr(e.node); errno != 0 || again.ino != e.ino {
			t.Errorf("file %d is inode %d, %v; was %d", i, again.ino, errno, e.ino)
		}
	}
	if n := g.s.nodes.pinned; n != 4 {
		t.Errorf("%d nodes pinned, want 4", n)
	}
}

func TestDeepTree(t *testing.T) {
	share, _ := tree(t)
	g := forgetful(t, share)
	dir := uint64(rootID)
	for range 200 {
		dir = must[entry](g)(g.askEntry(opMkdir, dir, cat(0o755, 0, "d\x00"))).node
	}
	if g.s.nodes.pinned != 0 {
		t.Errorf("%d nodes pinned", g.s.nodes.pinned)
	}
	if _, _, errno := g.create(dir, "leaf", unix.O_WRONLY, 0o644); errno != 0 {
		t.Error(errno)
	}
}

func TestUnpinnedNodeIsFoundAgain(t *testing.T) {
	share, secret := tree(t)
	at := func(elem ...string) string { return filepath.Join(append([]string{share}, elem...)...) }
	type parts struct{ dir, file entry }
	for _, test := range []struct {
		name string
		do   func(t *testing.T, g guest, p parts)
		want unix.Errno // of the file afterwards
	}{
		{"untouched", func(t *testing.T, g guest, p parts) {}, 0},
		{"moved by the guest", func(t *testing.T, g guest, p parts) {
			must[[]byte](g)(g.ask(opRename, p.dir.node, cat(uint64(rootID), "file\x00elsewhere\x00")))
		}, 0},
		{"directory moved by the guest", func(t *testing.T, g guest, p parts) {
			must[[]byte](g)(g.ask(opRename, rootID, cat(uint64(rootID), "dir\x00elsewhere\x00")))
		}, 0},
		{"exchanged by the guest", func(t *testing.T, g guest, p parts) {
			must[[]byte](g)(g.ask(opRename2, rootID, cat(uint64(rootID), unix.RENAME_EXCHANGE, 0, "dir\x00other\x00")))
		}, 0},
		{"moved by the host", func(t *testing.T, g guest, p parts) {
			hostDo(t, os.Rename(at("dir", "file"), at("elsewhere")))
		}, unix.ESTALE},
		{"directory moved by the host", func(t *testing.T, g guest, p parts) {
			hostDo(t, os.Rename(at("dir"), at("elsewhere")))
		}, unix.ESTALE},
		{"removed", func(t *testing.T, g guest, p parts) {
			hostDo(t, os.Remove(at("dir", "file")))
		}, unix.ESTALE},
		{"replaced by another", func(t *testing.T, g guest, p parts) {
			// Many file systems give the number of the one to the other.
			hostDo(t, os.Remove(at("dir", "file")))
			put(t, at("dir", "file"), "another")
		}, unix.ESTALE},
		{"replaced by a link outside", func(t *testing.T, g guest, p parts) {
			hostDo(t, os.Remove(at("dir", "file")), os.Symlink(secret, at("dir", "file")))
		}, unix.ESTALE},
		{"directory replaced by a link outside", func(t *testing.T, g guest, p parts) {
			put(t, filepath.Join(filepath.Dir(secret), "file"), "outside")
			hostDo(t, os.Rename(at("dir"), at("elsewhere")), os.Symlink(filepath.Dir(secret), at("dir")))
		}, unix.ESTALE},
		{"directory forgotten", func(t *testing.T, g guest, p parts) {
			g.forget(p.dir.node, 1)
		}, unix.ESTALE},
		{"open, and removed", func(t *testing.T, g guest, p parts) {
			must[uint64](g)(g.open(p.file.node, unix.O_RDONLY))
			hostDo(t, os.Remove(at("dir", "file")))
		}, 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			hostDo(t, os.RemoveAll(share), os.MkdirAll(at("dir"), 0o755), os.Mkdir(at("other"), 0o755))
			put(t, at("dir", "file"), "content")
			g := forgetful(t, share)
			var p parts
			p.dir = g.find(rootID, "dir")
			p.file = g.find(p.dir.node, "file")
			test.do(t, g, p)
			if got, errno := g.getattr(p.file.node); errno != test.want || errno == 0 && got.ino != p.file.ino {
				t.Errorf("inode %d, %v; want %d, %v", got.ino, errno, p.file.ino, test.want)
			}
			if got, errno := g.slurp(p.file.node); errno != test.want || errno == 0 && got != "content" {
				t.Errorf("read %q, %v; want %v", got, errno, test.want)
			}
			if n := len(g.s.handles.byID); g.s.nodes.pinned != n {
				t.Errorf("%d nodes pinned, %d handles", g.s.nodes.pinned, n)
			}
		})
	}
}

// TestReplacedFileIsAnotherNode: what is found under the name has another number
// than what was there, even if the host's file system used the inode again.
func TestReplacedFileIsAnotherNode(t *testing.T) {
	share, _ := tree(t)
	path := filepath.Join(share, "file")
	put(t, path, "one")
	g := forgetful(t, share)
	one := g.find(rootID, "file")
	hostDo(t, os.Remove(path))
	put(t, path, "two")
	two := g.find(rootID, "file")
	if two.node == one.node {
		t.Errorf("both are node %d (inodes %d and %d)", one.node, one.ino, two.ino)
	}
	if again := g.find(rootID, "file"); again.node != two.node {
		t.Errorf("node %d became %d", two.node, again.node)
	}
}

// TestDirectoriesInEachOther: what the table believes can be a circle.
func TestDirectoriesInEachOther(t *testing.T) {
	share, _ := tree(t)
	g := forgetful(t, share)
	at := func(elem ...string) string { return filepath.Join(append([]string{share}, elem...)...) }
	hostDo(t, os.MkdirAll(at("a", "b"), 0o755))
	a := g.find(rootID, "a")
	b := g.find(a.node, "b")
	h := must[uint64](g)(g.opendir(b.node))
	hostDo(t, os.Rename(at("a", "b"), at("b")), os.Rename(at("a"), at("b", "a")))
	if again := g.find(b.node, "a"); again.node != a.node {
		t.Fatalf("b/a is node %d, want %d", again.node, a.node)
	}
	g.release(opReleasedir, b.node, h)
	for _, e := range []entry{a, b} {
		if _, errno := g.getattr(e.node); errno != unix.ESTALE {
			t.Errorf("node %d: %v", e.node, errno)
		}
	}
	for _, n := range g.s.nodes.byID {
		if n.users != 0 {
			t.Errorf("node %d has %d users", n.id, n.users)
		}
	}
	// The guest looks again, and finds both.
	if b2 := g.find(rootID, "b"); b2.node != b.node {
		t.Errorf("b is node %d, want %d", b2.node, b.node)
	}
	if a2 := g.find(b.node, "a"); a2.node != a.node {
		t.Errorf("a is node %d, want %d", a2.node, a.node)
	}
}
