package fs

import (
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

func TestReadOnly(t *testing.T) {
	share, _ := tree(t)
	path := filepath.Join(share, "file")
	put(t, path, "safe")
	if err := os.Mkdir(filepath.Join(share, "dir"), 0o755); err != nil {
		t.Fatal(err)
	}
	g := mount(t, Config{Dir: share, ReadOnly: true})
	e := g.find(rootID, "file")
	for name, ask := range nameOps(g, "new") {
		if name != "lookup" {
			if errno := ask(); errno != unix.EROFS {
				t.Errorf("%s: %v", name, errno)
			}
		}
	}
	for _, a := range []change{{valid: setMode}, {valid: setSize}, {valid: setMtime}, {valid: setUID}} {
		if _, errno := g.setattr(e.node, a); errno != unix.EROFS {
			t.Errorf("setattr %+v: %v", a, errno)
		}
	}
	for _, flags := range []int{unix.O_WRONLY, unix.O_RDWR, unix.O_RDONLY | unix.O_TRUNC} {
		if _, errno := g.open(e.node, flags); errno != unix.EROFS {
			t.Errorf("open with %#x: %v", flags, errno)
		}
	}
	h := must[uint64](g)(g.open(e.node, unix.O_RDONLY))
	if _, errno := g.write(e.node, h, 0, "x", 0); errno != unix.EROFS {
		t.Errorf("write: %v", errno)
	}
	for _, op := range []opcode{opFallocate, opCopyFileRange} {
		if _, errno := g.ask(op, e.node, cat(h, zeros(64))); errno != unix.EROFS {
			t.Errorf("opcode %d: %v", op, errno)
		}
	}
	if got, errno := g.slurp(e.node); got != "safe" || errno != 0 {
		t.Errorf("read %q, %v", got, errno)
	}
}

func TestLimits(t *testing.T) {
	share, _ := tree(t)
	for i := range 10 {
		put(t, filepath.Join(share, fmt.Sprint(i)), "")
	}
	put(t, filepath.Join(share, "file"), "")
	g := mount(t, Config{Dir: share, MaxNodes: 4, MaxHandles: 2})
	g.find(rootID, "file")
	g.find(rootID, "1")
	last := g.find(rootID, "2")
	if _, errno := g.lookup(rootID, "3"); errno != unix.ENFILE {
		t.Errorf("node beyond the limit: %v", errno)
	}
	if again := g.find(rootID, "2"); again.node != last.node {
		t.Errorf("a known node is %d, was %d", again.node, last.node)
	}
	for name, ask := range nameOps(g, "new") {
		switch name {
		case "mknod", "mkdir", "symlink", "link", "create":
			if errno := ask(); errno != unix.ENFILE {
				t.Errorf("%s beyond the limit: %v", name, errno)
			}
		}
	}
	if _, err := os.Lstat(filepath.Join(share, "new")); err == nil {
		t.Error("a file was made that the guest cannot see")
	}
	// A listing goes on without the lookups.
	if got := g.listing(opReaddirplus, rootID, 4096); len(got) != 13 {
		t.Errorf("listing %q", got)
	}
	for range 2 {
		must[uint64](g)(g.open(last.node, unix.O_RDONLY))
	}
	if _, errno := g.open(last.node, unix.O_RDONLY); errno != unix.ENFILE {
		t.Errorf("handle beyond the limit: %v", errno)
	}
	if _, errno := g.opendir(rootID); errno != unix.ENFILE {
		t.Errorf("directory handle beyond the limit: %v", errno)
	}
	g.forget(last.node, 9)
	if _, errno := g.lookup(rootID, "3"); errno != 0 {
		t.Errorf("after a forget: %v", errno)
	}
}

func TestBatchForget(t *testing.T) {
	share, _ := tree(t)
	put(t, filepath.Join(share, "a"), "")
	put(t, filepath.Join(share, "b"), "")
	g := mount(t, Config{Dir: share})
	a, b := g.find(rootID, "a"), g.find(rootID, "b")
	g.ask(opBatchForget, 0, cat(1000, 0, a.node, uint64(1), b.node, uint64(1), uint64(77)))
	if len(g.s.nodes.byID) != 1 {
		t.Errorf("%d nodes left", len(g.s.nodes.byID))
	}
}

func TestTwoGuests(t *testing.T) {
	share, _ := tree(t)
	a, b := mount(t, Config{Dir: share}), mount(t, Config{Dir: share})
	ea, ha, errno := a.create(rootID, "file", unix.O_RDWR, 0o644)
	if errno != 0 {
		t.Fatal(errno)
	}
	eb := b.find(rootID, "file")
	if ea.ino != eb.ino {
		t.Errorf("inode %d in one guest and %d in the other", ea.ino, eb.ino)
	}
	hb := must[uint64](b)(b.open(eb.node, unix.O_WRONLY|unix.O_APPEND))
	for i := range 10 {
		// Both believe that the file is empty.
		a.write(ea.node, ha, 0, fmt.Sprintf("a%d ", i), unix.O_APPEND)
		b.write(eb.node, hb, 0, fmt.Sprintf("b%d ", i), unix.O_APPEND)
	}
	want := "a0 b0 a1 b1 a2 b2 a3 b3 a4 b4 a5 b5 a6 b6 a7 b7 a8 b8 a9 b9 "
	for _, g := range []guest{a, b} {
		e := g.find(rootID, "file")
		if got, errno := g.slurp(e.node); got != want || errno != 0 {
			t.Errorf("read %q, %v", got, errno)
		}
		if e.size != uint64(len(want)) {
			t.Errorf("size %d", e.size)
		}
	}
	// Nothing may be believed for any time, unless the host says so.
	raw, _ := a.ask(opLookup, rootID, cat("file\x00"))
	if diff := cmp.Diff(zeros(24), raw[16:40]); diff != "" {
		t.Errorf("validity of the entry (-want +got):\n%s", diff)
	}
	c := mount(t, Config{Dir: share, CacheFor: 1500 * time.Millisecond})
	raw, _ = c.ask(opLookup, rootID, cat("file\x00"))
	want2 := cat(uint64(1), uint64(1), 500_000_000, 500_000_000)
	if diff := cmp.Diff(want2, raw[16:40]); diff != "" {
		t.Errorf("validity of the entry (-want +got):\n%s", diff)
	}
}

func TestManyWorkers(t *testing.T) {
	share, _ := tree(t)
	shared := mount(t, Config{Dir: share, MaxNodes: 64, MaxPinned: 1, MaxHandles: 64})
	var work sync.WaitGroup
	for i := range 8 {
		work.Go(func() {
			g := guest{t, shared.s, new(call)}
			for j := range 50 {
				// Everybody works on the same names, and forgets what others use.
				name := fmt.Sprint(j % 3)
				e, h, errno := g.create(rootID, name, unix.O_RDWR, 0o644)
				if errno != 0 {
					continue
				}
				g.write(e.node, h, uint64(i), "data", 0)
				g.read(e.node, h, 0, 100)
				g.ask(opUnlink, rootID, cat(name, "\x00"))
				g.listing(opReaddirplus, rootID, 4096)
				g.release(opRelease, e.node, h)
				g.forget(e.node, uint64(j))
			}
		})
	}
	work.Wait()
	if n := len(shared.s.handles.byID); n != 0 {
		t.Errorf("%d handles left", n)
	}
}

// TestFilesInUseStayOpen: what the guest gives up is closed once, and not while a
// request works on it; its descriptor's number could be another file's by then.
func TestFilesInUseStayOpen(t *testing.T) {
	share, _ := tree(t)
	put(t, filepath.Join(share, "file"), "")
	g := mount(t, Config{Dir: share})
	isOpen := func(fd int) bool {
		_, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0)
		return err == nil
	}
	e := g.find(rootID, "file")
	handle := must[uint64](g)(g.open(e.node, unix.O_RDONLY))
	n, _ := g.s.nodes.get(e.node)
	h, _ := g.s.handles.get(handle, e.node, false)
	g.s.nodes.get(e.node)
	g.s.handles.get(handle, e.node, false)

	g.forget(e.node, 1)
	g.release(opRelease, e.node, handle)
	g.s.nodes.put(n)
	g.s.handles.put(h)
	if !isOpen(n.fd) || !isOpen(h.fd) {
		t.Errorf("in use: node open %v, handle open %v", isOpen(n.fd), isOpen(h.fd))
	}
	g.s.nodes.put(n)
	g.s.handles.put(h)
	if isOpen(n.fd) || isOpen(h.fd) {
		t.Errorf("after the last use: node open %v, handle open %v", isOpen(n.fd), isOpen(h.fd))
	}
}

// TestDescriptorsAreGivenBack counts the process's descriptors.
func TestDescriptorsAreGivenBack(t *testing.T) {
	count := func() int {
		list, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Fatal(err)
		}
		return len(list)
	}
	share, _ := tree(t)
	put(t, filepath.Join(share, "file"), "")
	before := count()
	d, err := New(Config{Tag: "x", Dir: share})
	if err != nil {
		t.Fatal(err)
	}
	s, err := d.newSession()
	if err != nil {
		t.Fatal(err)
	}
	g := guest{t, s, new(call)}
	g.ask(opInit, 0, cat(7, 40, 1<<20, 0, zeros(48)))
	for name := range nameOps(g, "x") { // lookups of "file"
		g.create(rootID, name, unix.O_RDWR, 0o644)
		g.create(rootID, "..", unix.O_RDWR, 0o644)
		g.opendir(rootID)
		g.listing(opReaddirplus, rootID, 4096)
		g.lookup(rootID, "absent")
	}
	s.forgetAll()
	if err := d.Close(); err != nil {
		t.Error(err)
	}
	if after := count(); after != before {
		t.Errorf("%d descriptors before, %d after", before, after)
	}
}
