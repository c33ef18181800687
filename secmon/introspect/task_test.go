package introspect

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

func TestProcess(t *testing.T) {
	n := newTown()
	got, err := n.current(t).Process()
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(Process{PID: 42, TGID: 41, Parent: 7, UID: 1000, Comm: "a task"}, got); d != "" {
		t.Errorf("process (-want +got):\n%s", d)
	}
}

func TestFile(t *testing.T) {
	n := newTown()
	task := n.current(t)
	got, err := task.File(0)
	if err != nil {
		t.Fatal(err)
	}
	want := File{
		Location: Location{Path: "/mnt/share/tool", FS: "virtiofs", Source: "files", Inner: "/tool", Inode: n.number(n.tool), Exists: true},
		Pos:      5, Flags: 0o2001, Size: 99,
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("file (-want +got):\n%s", d)
	}
	// Through a bind mount the path differs, the file in its file system not.
	got, err = task.File(1)
	if err != nil || got.Path != "/bound/deep" || got.Inner != "/tmp/dir/deep" {
		t.Errorf("through a bind mount: %+v, %v", got, err)
	}
	for _, fd := range []int32{2, 4, 15, 16, 1 << 30, -1, -1 << 31} {
		if _, err := task.File(fd); !errors.Is(err, ErrNotOpen) {
			t.Errorf("fd %d: %v, want %v", fd, err, ErrNotOpen)
		}
	}
}

func TestProgram(t *testing.T) {
	n := newTown()
	binprm := n.alloc(64)
	n.set(binprm, n.layout.programFile, n.open(place{n.share.mount, n.tool}, 0, 0, 0))
	n.set(binprm, n.layout.programName, n.str("./tool"))
	loc, name, err := n.current(t).Program(binprm)
	want := Location{Path: "/mnt/share/tool", FS: "virtiofs", Source: "files", Inner: "/tool", Inode: n.number(n.tool), Exists: true}
	if err != nil || name != "./tool" {
		t.Errorf("name %q, %v", name, err)
	}
	if d := cmp.Diff(want, loc); d != "" {
		t.Errorf("program (-want +got):\n%s", d)
	}
	n.set(binprm, n.layout.programFile, 0)
	if _, _, err := n.current(t).Program(binprm); !errors.Is(err, ErrWalk) {
		t.Errorf("no file: %v", err)
	}
	if _, _, err := n.current(t).Program(unmapped); !errors.Is(err, ErrNotResident) {
		t.Errorf("a wild structure: %v", err)
	}
}

func TestSystemCall(t *testing.T) {
	n := newTown()
	regs := n.alloc(1024)
	for abi := range n.layout.calls {
		for i, f := range n.layout.calls[abi].arg {
			n.set(regs, f, uint64(i+1)<<32|uint64(10*abi+i))
		}
		n.set(regs, n.layout.calls[abi].number, uint64(100+abi))
	}
	number, args, err := n.current(t).SystemCall(regs, Native)
	if want := [6]uint64{1 << 32, 2<<32 | 1, 3<<32 | 2, 4<<32 | 3, 5<<32 | 4, 6<<32 | 5}; err != nil || number != 100 || args != want {
		t.Errorf("native: %d %x %v", number, args, err)
	}
	number, args, err = n.current(t).SystemCall(regs, Compat)
	if want := [6]uint64{10, 11, 12, 13, 14, 15}; err != nil || number != 101 || args != want {
		t.Errorf("compat: %d %x %v", number, args, err)
	}
	if _, _, err := n.current(t).SystemCall(unmapped, Native); !errors.Is(err, ErrNotResident) {
		t.Errorf("wild registers: %v", err)
	}
}

func TestString(t *testing.T) {
	n := newTown()
	task := n.current(t)
	long := strings.Repeat("x", maxPath-1)
	for _, want := range []string{"", "short", long} {
		if got, err := task.String(n.str(want)); err != nil || got != want {
			t.Errorf("%d bytes: read %d, %v", len(want), len(got), err)
		}
	}
	if _, err := task.String(n.str(long + "x")); !errors.Is(err, ErrWalk) {
		t.Errorf("a string that is too long: %v", err)
	}
	if _, err := task.String(unmapped); !errors.Is(err, ErrNotResident) {
		t.Errorf("a string that is not there: %v", err)
	}
	// One that ends at the end of the last page is read without the next.
	n.next = (n.next + 8191) &^ 4095
	at := n.alloc(4096) + 4096 - 4
	n.write(at, []byte("end\x00"))
	if got, err := task.String(at); err != nil || got != "end" {
		t.Errorf("at the end of memory: %q, %v", got, err)
	}
	n.write(at, []byte("ends"))
	if _, err := task.String(at); !errors.Is(err, ErrNotResident) {
		t.Errorf("beyond the end of memory: %v", err)
	}
}

// hostShare is the host's side of the share "files".
type hostShare map[string]Entry

func (h hostShare) Lstat(tag, path string) (Entry, error) {
	e, ok := h[path]
	if tag != "files" || !ok {
		return Entry{}, fs.ErrNotExist
	}
	return e, nil
}

func TestResolve(t *testing.T) {
	n := newTown()
	link := func(target string) Entry { return Entry{Mode: fs.ModeSymlink, Inode: 1, Target: target} }
	host := hostShare{
		"/":           {Mode: fs.ModeDir, Inode: n.number(n.share.dentry)},
		"/tool":       {Inode: n.number(n.tool), Size: 10},
		"/uncached":   {Mode: fs.ModeDir, Inode: 5},
		"/uncached/f": {Inode: 6},
		"/to-f":       link("uncached/f"),
		"/to-own":     link("/tmp/dir/deep"),
		"/up":         link("../../tmp/dir"),
		"/circle":     link("circle"),
	}
	for _, c := range []struct {
		dir        int32
		path       string
		nofollow   bool
		want, rest string // path, and file system with the path inside it; "-" where absent
	}{
		{CurrentDir, "/", false, "/", "tmpfs /"},
		{CurrentDir, ".", false, "/tmp/dir", "tmpfs /tmp/dir"},
		{CurrentDir, "deep", false, "/tmp/dir/deep", "tmpfs /tmp/dir/deep"},
		{CurrentDir, "./deep/../..//dir/deep/", false, "/tmp/dir/deep", "tmpfs /tmp/dir/deep"},
		{CurrentDir, "../../../../..", false, "/", "tmpfs /"},
		{CurrentDir, "/tmp/link", false, "/mnt/share/tool", "virtiofs /tool"},
		{CurrentDir, "/tmp/link", true, "/tmp/link", "tmpfs /tmp/link"},
		{CurrentDir, "rel/tool", false, "/mnt/share/tool", "virtiofs /tool"},
		{CurrentDir, "rel/..", false, "/mnt", "tmpfs /mnt"},
		{CurrentDir, "/bound/deep", false, "/bound/deep", "tmpfs /tmp/dir/deep"},
		{CurrentDir, "/bound/..", false, "/", "tmpfs /"},
		{CurrentDir, "/mnt/share/sub/a file with a name longer than eight", false, "/mnt/share/sub/a file with a name longer than eight", "tmpfs /a file with a name longer than eight"},
		{CurrentDir, "/mnt/share/sub/../tool", false, "/mnt/share/tool", "virtiofs /tool"},
		{CurrentDir, "/mnt/share/uncached/f", false, "/mnt/share/uncached/f", "virtiofs /uncached/f"},
		{CurrentDir, "/mnt/share/uncached/../tool", false, "/mnt/share/tool", "virtiofs /tool"},
		{CurrentDir, "/mnt/share/to-f", false, "/mnt/share/uncached/f", "virtiofs /uncached/f"},
		{CurrentDir, "/mnt/share/to-f", true, "/mnt/share/to-f", "virtiofs /to-f"},
		{CurrentDir, "/mnt/share/to-own", false, "/tmp/dir/deep", "tmpfs /tmp/dir/deep"},
		{CurrentDir, "/mnt/share/up/deep", false, "/tmp/dir/deep", "tmpfs /tmp/dir/deep"},
		{CurrentDir, "/mnt/share/new/file", false, "/mnt/share/new/file", "virtiofs /new/file -"},
		{CurrentDir, "/tmp/new", false, "/tmp/new", "tmpfs /tmp/new -"},
		{1, ".", false, "/bound/deep", "tmpfs /tmp/dir/deep"},
		{1, "..", false, "/bound", "tmpfs /tmp/dir"},
		{3, "tool", false, "/mnt/share/tool", "virtiofs /tool"},
		{3, "/tmp", false, "/tmp", "tmpfs /tmp"},
	} {
		loc, err := n.current(t).Resolve(c.dir, c.path, host, !c.nofollow)
		if err != nil {
			t.Errorf("%q: %v", c.path, err)
			continue
		}
		rest := loc.FS + " " + loc.Inner
		if !loc.Exists {
			rest += " -"
		}
		if loc.Path != c.want || rest != c.rest {
			t.Errorf("%q from %d is %q, %q, want %q, %q", c.path, c.dir, loc.Path, rest, c.want, c.rest)
		}
		if loc.Exists != (loc.Inode != 0) {
			t.Errorf("%q: inode %d, exists %v", c.path, loc.Inode, loc.Exists)
		}
	}
	for path, want := range map[string]error{"": unix.ENOENT, "/loop": nil, "/mnt/share/circle": nil, strings.Repeat("x", 256): nil} {
		if _, err := n.current(t).Resolve(CurrentDir, path, host, true); err == nil || want != nil && !errors.Is(err, want) {
			t.Errorf("%q: error %v", path, err)
		}
	}
	if _, err := n.current(t).Resolve(2, "x", host, true); !errors.Is(err, ErrNotOpen) {
		t.Errorf("a directory that is not open: %v", err)
	}
}

// When the host has put another file under a name, the guest's cache of it is
// out of date, and the guest would find that out.
func TestResolveBelievesTheHost(t *testing.T) {
	n := newTown()
	loc, err := n.current(t).Resolve(CurrentDir, "/mnt/share/tool", hostShare{"/tool": {Inode: 77}}, true)
	if err != nil || loc.Inode != 77 || !loc.Exists || loc.Inner != "/tool" {
		t.Errorf("%+v, %v", loc, err)
	}
	loc, err = n.current(t).Resolve(CurrentDir, "/mnt/share/tool", hostShare{}, true)
	if err != nil || loc.Exists || loc.Inner != "/tool" {
		t.Errorf("deleted on the host: %+v, %v", loc, err)
	}
	loc, err = n.current(t).Resolve(CurrentDir, "/mnt/share/tool", nil, true)
	if err != nil || loc.Inode != n.number(n.tool) {
		t.Errorf("without the host: %+v, %v", loc, err)
	}
}

// ask puts every question to a world and gives the errors.
func ask(w *world) map[string]error {
	errs := make(map[string]error)
	task := &Task{guest: w.Guest, view: w, addr: w.task}
	count := func(name string, f func() error) {
		w.reads = 0
		errs[name] = f()
		if w.reads > maxReads {
			errs[name] = fmt.Errorf("%d reads", w.reads)
			panic(errs[name])
		}
	}
	count("process", func() error { _, err := task.Process(); return err })
	for fd := range int32(4) {
		count(fmt.Sprint("fd ", fd), func() error { _, err := task.File(fd); return err })
	}
	for _, path := range []string{"/tmp/link", "rel/tool", "../../bound/../mnt/share/sub/x", "/mnt/share/tool", "/loop"} {
		for _, shares := range []Shares{nil, hostShare{"/tool": {Inode: 3}, "/sub": {Inode: 4}}} {
			count(path, func() error { _, err := task.Resolve(CurrentDir, path, shares, true); return err })
		}
	}
	return errs
}

// A guest that builds structures to hold us up gets an error in bounded time.
func TestHostileStructures(t *testing.T) {
	for name, c := range map[string]struct {
		spoil func(n *town)
		fails string
		with  error
	}{
		"a directory in itself": {func(n *town) { n.set(n.tmp, n.layout.dentryParent, n.dir) }, "rel/tool", nil},
		"parents that circle":   {func(n *town) { n.set(n.tmp, n.layout.dentryParent, n.deep) }, "fd 1", ErrWalk},
		"a file's parents circle": {func(n *town) {
			n.set(n.sub, n.layout.dentryParent, n.tool)
			n.set(n.tool, n.layout.dentryParent, n.sub)
		}, "fd 0", ErrWalk},
		"mounts that circle": {func(n *town) {
			n.set(n.share.mount, n.layout.mountParent, n.over.mount)
			n.set(n.share.mount, n.layout.mountPoint, n.over.dentry)
			n.set(n.over.mount, n.layout.mountPoint, n.share.dentry)
		}, "fd 0", ErrWalk},
		"a chain that circles": {func(n *town) {
			for b := range uint64(1 << hashBits) {
				first := n.get(n.table+8*b, field{0, 8}) &^ 1
				if first != 0 {
					n.set(first, n.layout.nodeNext, first)
					n.set(first-n.layout.dentryHash.off, n.layout.dentryNameHash, 0)
				}
			}
		}, "/tmp/link", ErrWalk},
		"a list of mounts without end": {func(n *town) {
			n.set(n.bound.mount+n.layout.mountChild.off, field{0, 8}, n.bound.mount+n.layout.mountChild.off)
			n.set(n.bound.mount, n.layout.mountPoint, n.tool)
		}, "/tmp/link", ErrWalk},
		"a name of 4 GiB":   {func(n *town) { n.set(n.tool, n.layout.dentryNameHash, 0xffffffff<<32) }, "fd 0", ErrWalk},
		"a wild name":       {func(n *town) { n.set(n.tool, n.layout.dentryName, unmapped) }, "fd 0", ErrNotResident},
		"no name":           {func(n *town) { n.set(n.tool, n.layout.dentryName, 0) }, "fd 0", ErrWalk},
		"no file system":    {func(n *town) { n.set(n.share.mount+n.layout.mountVFS.off, n.layout.vfsSuper, 0) }, "fd 0", ErrWalk},
		"a wild table":      {func(n *town) { n.set(n.dentryHash, field{0, 8}, unmapped) }, "/tmp/link", ErrNotResident},
		"a shift too large": {func(n *town) { n.set(n.dentryHashLog, field{0, 4}, 0xffffffff) }, "", nil},
		"no files":          {func(n *town) { n.set(n.task, n.layout.taskFiles, 0) }, "fd 0", ErrWalk},
		"no credentials":    {func(n *town) { n.set(n.task, n.layout.taskCred, 0) }, "process", ErrWalk},
		"wild credentials":  {func(n *town) { n.set(n.task, n.layout.taskCred, unmapped) }, "process", ErrNotResident},
	} {
		t.Run(name, func(t *testing.T) {
			n := newTown()
			c.spoil(n)
			err, asked := ask(n.world)[c.fails]
			switch {
			case c.fails == "":
			case !asked:
				t.Fatalf("no question %q", c.fails)
			case err == nil || c.with != nil && !errors.Is(err, c.with):
				t.Errorf("%s: error %v, want %v", c.fails, err, c.with)
			}
		})
	}
}

// FuzzGuestMemory overwrites words of a guest's memory, with pointers into it
// or anything else.
func FuzzGuestMemory(f *testing.F) {
	f.Add([]byte{1, 0, 0, 0, 2, 0, 7, 1, 1, 5})
	f.Add([]byte("the quick brown fox jumps over the lazy dog"))
	f.Fuzz(func(t *testing.T, p []byte) {
		n := newTown()
		size := n.next - worldStart
		for ; len(p) >= 5; p = p[5:] {
			at := worldStart + 8*((uint64(p[0])|uint64(p[1])<<8)%(size/8))
			v := uint64(p[2]) | uint64(p[3])<<8
			switch p[4] % 4 {
			case 0:
				v = worldStart + 8*(v%(size/8))
			case 1:
				v |= v<<16 | v<<32 | v<<48
			case 2:
				v = ^v
			}
			n.set(at, field{0, 8}, v)
		}
		ask(n.world)
	})
}

// TestQuestionsDoNotAllocate: what is asked at every system call allocates
// nothing once its answers have been met.
func TestQuestionsDoNotAllocate(t *testing.T) {
	w := newTown()
	task := new(Task)
	for name, ask := range map[string]func() error{
		"task":    func() error { return task.Next(w.Guest, w, w.task) },
		"process": func() error { _, err := task.Process(); return err },
		"file":    func() error { _, err := task.File(0); return err },
		"path":    func() error { _, err := task.Resolve(CurrentDir, "/tmp/../tmp", nil, true); return err },
	} {
		if err := task.Next(w.Guest, w, w.task); err != nil {
			t.Fatal(err)
		}
		if err := ask(); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if n := testing.AllocsPerRun(100, func() { _ = ask() }); n > 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
}

// What is met is bounded, whatever the guest calls things.
func TestMetIsBounded(t *testing.T) {
	r := &reader{met: maps.Clone(words)}
	for i := range 10 * maxMet {
		name := fmt.Sprintf("name %d", i)
		if got := r.interned([]byte(name)); got != name {
			t.Fatalf("%q became %q", name, got)
		}
	}
	long := strings.Repeat("x", maxMetLength+1)
	if got := r.interned([]byte(long)); got != long || len(r.met) > maxMet || r.met[long] != "" {
		t.Errorf("%d strings are kept", len(r.met))
	}
}
