package fs

import (
	"errors"
	iofs "io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// nameOps are all requests that hold a name, with the name at every place.
func nameOps(g guest, name string) map[string]func() unix.Errno {
	ask := func(op opcode, parts ...any) func() unix.Errno {
		return func() unix.Errno {
			_, errno := g.ask(op, rootID, cat(parts...))
			return errno
		}
	}
	end := "\x00"
	return map[string]func() unix.Errno{
		"lookup":      ask(opLookup, name, end),
		"mknod":       ask(opMknod, unix.S_IFREG|0o644, 0, 0, 0, name, end),
		"mkdir":       ask(opMkdir, 0o755, 0, name, end),
		"create":      ask(opCreate, unix.O_RDWR, 0o644, 0, 0, name, end),
		"symlink":     ask(opSymlink, name, end, "target", end),
		"link":        ask(opLink, uint64(g.find(rootID, "file").node), name, end),
		"unlink":      ask(opUnlink, name, end),
		"rmdir":       ask(opRmdir, name, end),
		"rename from": ask(opRename, uint64(rootID), name, end, "other", end),
		"rename to":   ask(opRename, uint64(rootID), "file", end, name, end),
		"exchange":    ask(opRename2, uint64(rootID), unix.RENAME_EXCHANGE, 0, "file", end, name, end),
	}
}

func TestNamesAreOneComponent(t *testing.T) {
	share, secret := tree(t)
	put(t, filepath.Join(share, "file"), "inside")
	if err := os.Mkdir(filepath.Join(share, "dir"), 0o755); err != nil {
		t.Fatal(err)
	}
	g := mount(t, Config{Dir: share})
	for name, want := range map[string]unix.Errno{
		"":                       unix.EINVAL,
		".":                      unix.EINVAL,
		"..":                     unix.EINVAL,
		"../secret":              unix.EINVAL,
		"/etc/passwd":            unix.EINVAL,
		"dir/../../secret":       unix.EINVAL,
		"dir/":                   unix.EINVAL,
		"/":                      unix.EINVAL,
		"..\x00secret":           unix.EINVAL,
		strings.Repeat("n", 256): unix.ENAMETOOLONG,
	} {
		for op, ask := range nameOps(g, name) {
			if errno := ask(); errno != want {
				t.Errorf("%s %.20q: %v, want %v", op, name, errno, want)
			}
		}
	}
	if _, errno := g.ask(opLookup, rootID, []byte("file")); errno != unix.EINVAL {
		t.Errorf("name without an end: %v", errno)
	}
	if get(t, secret) != "secret" || get(t, filepath.Join(share, "file")) != "inside" {
		t.Error("a file changed")
	}
}

func TestLinksAreNotFollowed(t *testing.T) {
	share, secret := tree(t)
	for name, target := range map[string]string{
		"absolute": secret,
		"relative": "../secret",
		"parent":   "..",
		"root":     "/",
		"passwd":   "/etc/passwd",
		"magic":    "/proc/self/root",
		"dangling": filepath.Join(filepath.Dir(secret), "new"),
	} {
		path := filepath.Join(share, name)
		if err := os.Symlink(target, path); err != nil {
			t.Fatal(err)
		}
		t.Run(name, func(t *testing.T) {
			g := mount(t, Config{Dir: share})
			e := g.find(rootID, name)
			if e.mode&unix.S_IFMT != unix.S_IFLNK {
				t.Fatalf("mode %o", e.mode)
			}
			if b, errno := g.ask(opReadlink, e.node, nil); errno != 0 || string(b) != target {
				t.Errorf("readlink: %q, %v", b, errno)
			}
			if _, errno := g.lookup(e.node, "secret"); errno != unix.ENOTDIR {
				t.Errorf("lookup beyond: %v", errno)
			}
			if _, errno := g.opendir(e.node); errno != unix.ENOTDIR {
				t.Errorf("opendir: %v", errno)
			}
			for _, flags := range []int{unix.O_RDONLY, unix.O_RDWR, unix.O_WRONLY | unix.O_TRUNC} {
				if _, errno := g.open(e.node, flags); errno != unix.ELOOP {
					t.Errorf("open with %#x: %v", flags, errno)
				}
				if _, _, errno := g.create(rootID, name, flags, 0o644); errno != unix.ELOOP {
					t.Errorf("create with %#x: %v", flags, errno)
				}
			}
			if _, _, errno := g.create(rootID, name, unix.O_EXCL, 0o644); errno != unix.EEXIST {
				t.Errorf("exclusive create: %v", errno)
			}
			if _, errno := g.setattr(e.node, change{valid: setSize}); errno != unix.EINVAL {
				t.Errorf("truncate: %v", errno)
			}
			if _, errno := g.setattr(e.node, change{valid: setMode, mode: 0o777}); errno != unix.EOPNOTSUPP {
				t.Errorf("chmod: %v", errno)
			}
			if _, errno := g.ask(opMkdir, e.node, cat(0o755, 0, "x\x00")); errno != unix.ENOTDIR {
				t.Errorf("mkdir beyond: %v", errno)
			}

			// Times and names given to a link are the link's own.
			before, _ := os.Stat(path)
			at := unix.Timespec{Sec: 1e9}
			if _, errno := g.setattr(e.node, change{valid: setAtime | setMtime, atime: at, mtime: at}); errno != 0 {
				t.Errorf("utimes: %v", errno)
			}
			if after, _ := os.Stat(path); before != nil && after.ModTime() != before.ModTime() {
				t.Error("the target's time changed")
			}
			if own, err := os.Lstat(path); err != nil || own.ModTime().Unix() != 1e9 {
				t.Errorf("the link's time is %v, %v", own.ModTime(), err)
			}
			two, errno := g.askEntry(opLink, rootID, cat(e.node, name+"2\x00"))
			if errno != 0 || two.ino != e.ino || two.nlink != 2 {
				t.Errorf("hard link: %+v, %v; want inode %d", two, errno, e.ino)
			}
		})
	}
	if get(t, secret) != "secret" {
		t.Error("the secret changed")
	}
	if _, err := os.Lstat(filepath.Join(filepath.Dir(secret), "new")); !errors.Is(err, iofs.ErrNotExist) {
		t.Error("a file was made outside")
	}
}

// TestSwappedDirectory exchanges a directory for a link to one outside, as fast as
// it can, while the guest goes through it.
func TestSwappedDirectory(t *testing.T) {
	share, secret := tree(t)
	outside := filepath.Dir(secret)
	dir, link := filepath.Join(share, "dir"), filepath.Join(share, "link")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	put(t, filepath.Join(dir, "secret"), "public")
	if err := os.Symlink(outside, link); err != nil {
		t.Fatal(err)
	}
	stop := make(chan struct{})
	var swapper sync.WaitGroup
	swapper.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
				unix.Renameat2(unix.AT_FDCWD, dir, unix.AT_FDCWD, link, unix.RENAME_EXCHANGE)
			}
		}
	})
	t.Cleanup(swapper.Wait)
	t.Cleanup(func() { close(stop) })

	g := mount(t, Config{Dir: share, MaxPinned: 1})
	naive, inside := 0, 0
	for start := time.Now(); naive < 200 || inside < 200; {
		if time.Since(start) > 30*time.Second {
			t.Fatalf("no race: %d reads outside by path, %d inside by the guest", naive, inside)
		}
		// What a server that goes by paths would have read.
		if b, err := os.ReadFile(filepath.Join(dir, "secret")); err == nil && string(b) == "secret" {
			naive++
		}
		d, errno := g.lookup(rootID, "dir")
		if errno != 0 {
			t.Fatal(errno)
		}
		f, errno := g.lookup(d.node, "secret")
		if errno == 0 {
			content, errno := g.slurp(f.node)
			if errno == unix.ESTALE {
				continue // the descriptor was not kept, and the way there is swapped
			}
			if errno != 0 || content != "public" {
				t.Fatalf("read %q, %v", content, errno)
			}
			inside++
			g.forget(f.node, 1)
			if e, h, errno := g.create(d.node, "mark", unix.O_WRONLY, 0o644); errno == 0 {
				g.release(opRelease, e.node, h)
				g.forget(e.node, 1)
			}
			g.ask(opMkdir, d.node, cat(0o755, 0, "markdir\x00"))
			g.ask(opRename, d.node, cat(uint64(rootID), "markdir\x00markdir\x00"))
			g.ask(opRmdir, rootID, cat("markdir\x00"))
		} else if errno != unix.ENOTDIR && errno != unix.ESTALE {
			t.Fatal(errno)
		}
		g.forget(d.node, 1)
	}
	for _, name := range []string{"mark", "markdir"} {
		if _, err := os.Lstat(filepath.Join(outside, name)); !errors.Is(err, iofs.ErrNotExist) {
			t.Errorf("%s was made outside", name)
		}
	}
}

func TestMagicLinks(t *testing.T) {
	g := mount(t, Config{Dir: "/proc/self"})
	for _, name := range []string{"root", "cwd", "exe"} {
		e := g.find(rootID, name)
		if _, errno := g.lookup(e.node, "etc"); errno != unix.ENOTDIR {
			t.Errorf("lookup beyond %s: %v", name, errno)
		}
		if _, errno := g.open(e.node, unix.O_RDONLY); errno != unix.ELOOP {
			t.Errorf("open %s: %v", name, errno)
		}
	}
	f, err := os.Open("/etc/passwd")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	fds := g.find(rootID, "fd")
	for _, name := range g.listing(opReaddir, fds.node, 4096) {
		if name == "." || name == ".." {
			continue
		}
		e, errno := g.lookup(fds.node, name)
		if errno == unix.ENOENT {
			continue // the descriptor that listed them
		}
		if errno != 0 || e.mode&unix.S_IFMT != unix.S_IFLNK {
			t.Fatalf("descriptor %s: mode %o, %v", name, e.mode, errno)
		}
		if _, errno := g.open(e.node, unix.O_RDONLY); errno != unix.ELOOP {
			t.Errorf("open of descriptor %s: %v", name, errno)
		}
	}
}

func TestOtherMountsAreNotEntered(t *testing.T) {
	g := mount(t, Config{Dir: "/"})
	if _, errno := g.lookup(rootID, "proc"); errno != unix.EXDEV {
		t.Errorf("lookup of /proc: %v, want EXDEV", errno)
	}
}

// TestSpecialFilesAreNotOpened needs no privilege: the devices are those of /dev.
func TestSpecialFilesAreNotOpened(t *testing.T) {
	check := func(t *testing.T, g guest, name string, kind uint32) {
		e := g.find(rootID, name)
		if e.mode&unix.S_IFMT != kind {
			t.Fatalf("%s has mode %o", name, e.mode)
		}
		for _, flags := range []int{unix.O_RDONLY, unix.O_WRONLY, unix.O_RDWR, unix.O_WRONLY | unix.O_TRUNC} {
			if _, errno := g.open(e.node, flags); errno != unix.ENXIO {
				t.Errorf("open %s with %#x: %v", name, flags, errno)
			}
			if _, _, errno := g.create(rootID, name, flags, 0o644); errno != unix.ENXIO {
				t.Errorf("create %s with %#x: %v", name, flags, errno)
			}
		}
		if _, errno := g.setattr(e.node, change{valid: setSize, size: 1}); errno != unix.EINVAL && errno != unix.EPERM {
			t.Errorf("truncate %s: %v", name, errno)
		}
	}
	t.Run("device", func(t *testing.T) {
		g := mount(t, Config{Dir: "/dev"})
		check(t, g, "null", unix.S_IFCHR)
		e := g.find(rootID, "null")
		for what, a := range map[string]change{
			"mode":  {valid: setMode, mode: e.mode & 0o7777},
			"owner": {valid: setUID, uid: e.uid},
			"time":  {valid: setMtime | setMtimeNow},
		} {
			if _, errno := g.setattr(e.node, a); errno != unix.EPERM {
				t.Errorf("setting the %s of a device: %v", what, errno)
			}
		}
		if _, errno := g.ask(opLink, rootID, cat(e.node, "warder-test\x00")); errno != unix.EPERM {
			t.Errorf("hard link to a device: %v", errno)
		}
	})
	t.Run("fifo and socket", func(t *testing.T) {
		share, _ := tree(t)
		g := mount(t, Config{Dir: share})
		for name, kind := range map[string]uint32{"fifo": unix.S_IFIFO, "socket": unix.S_IFSOCK} {
			// The guest may make them: they are names.
			if _, errno := g.ask(opMknod, rootID, cat(kind|0o644, 0, 0, 0, name+"\x00")); errno != 0 {
				t.Fatalf("mknod %s: %v", name, errno)
			}
			check(t, g, name, kind)
		}
	})
	t.Run("creation", func(t *testing.T) {
		share, _ := tree(t)
		g := mount(t, Config{Dir: share})
		for _, kind := range []uint32{unix.S_IFCHR, unix.S_IFBLK, unix.S_IFDIR, unix.S_IFLNK, 0, unix.S_IFMT} {
			if _, errno := g.ask(opMknod, rootID, cat(kind|0o644, 0x103, 0, 0, "node\x00")); errno != unix.EPERM {
				t.Errorf("mknod of kind %o: %v", kind, errno)
			}
		}
		put(t, filepath.Join(share, "file"), "")
		const whiteout = 4 // RENAME_WHITEOUT leaves a device node behind
		if _, errno := g.ask(opRename2, rootID, cat(uint64(rootID), whiteout, 0, "file\x00file2\x00")); errno != unix.EINVAL {
			t.Errorf("whiteout: %v", errno)
		}
		if got := g.listing(opReaddir, rootID, 4096); len(got) != 3 {
			t.Errorf("the directory holds %q", got)
		}
	})
}

func TestSetIDBits(t *testing.T) {
	share, _ := tree(t)
	g := mount(t, Config{Dir: share})
	path := filepath.Join(share, "program")
	mode := func() uint32 {
		var st unix.Stat_t
		if err := unix.Lstat(path, &st); err != nil {
			t.Fatal(err)
		}
		return st.Mode & 0o7777
	}
	e, h, errno := g.create(rootID, "program", unix.O_RDWR, 0o6755)
	if errno != 0 || mode()&setID != 0 {
		t.Fatalf("created with mode %o, %v", mode(), errno)
	}
	for _, bits := range []uint32{unix.S_ISUID, unix.S_ISGID, setID} {
		if _, errno := g.setattr(e.node, change{valid: setMode, mode: bits | 0o755}); errno != unix.EPERM {
			t.Errorf("chmod %o: %v", bits|0o755, errno)
		}
	}
	// The host's own set-ID program: the guest may keep the bits, until it writes.
	set := func() {
		if err := unix.Chmod(path, 0o6755); err != nil {
			t.Fatal(err)
		}
	}
	set()
	if _, errno := g.setattr(e.node, change{valid: setMode, mode: 0o6555}); errno != 0 || mode() != 0o6555 {
		t.Errorf("chmod that keeps the bits: %v, mode %o", errno, mode())
	}
	for name, do := range map[string]func() unix.Errno{
		"open": func() unix.Errno {
			h, errno := g.open(e.node, unix.O_WRONLY)
			g.release(opRelease, e.node, h)
			return errno
		},
		"truncate": func() unix.Errno {
			_, errno := g.setattr(e.node, change{valid: setSize})
			return errno
		},
		"truncate by handle": func() unix.Errno {
			_, errno := g.setattr(e.node, change{valid: setSize | setHandle, handle: h})
			return errno
		},
	} {
		set()
		if errno := do(); errno != 0 || mode() != 0o755 {
			t.Errorf("%s: %v, mode %o afterwards", name, errno, mode())
		}
	}
	// On directories the group's bit is about inheritance, and allowed.
	d := must[entry](g)(g.askEntry(opMkdir, rootID, cat(0o7755, 0, "dir\x00")))
	if d.mode&setID != 0 {
		t.Errorf("directory made with mode %o", d.mode)
	}
	if _, errno := g.setattr(d.node, change{valid: setMode, mode: 0o2755}); errno != 0 {
		t.Errorf("chmod g+s of a directory: %v", errno)
	}
	if _, errno := g.setattr(d.node, change{valid: setMode, mode: 0o4755}); errno != unix.EPERM {
		t.Errorf("chmod u+s of a directory: %v", errno)
	}
}

func TestStaleNumbers(t *testing.T) {
	share, _ := tree(t)
	put(t, filepath.Join(share, "a"), "first")
	put(t, filepath.Join(share, "b"), "other")
	g := mount(t, Config{Dir: share})
	a, b := g.find(rootID, "a"), g.find(rootID, "b")
	ha := must[uint64](g)(g.open(a.node, unix.O_RDONLY))

	if _, errno := g.read(b.node, ha, 0, 10); errno != unix.EBADF {
		t.Errorf("handle of another node: %v", errno)
	}
	if _, errno := g.ask(opReaddir, a.node, readArgs(ha, 0, 4096)); errno != unix.ENOTDIR {
		t.Errorf("listing a file: %v", errno)
	}
	dir := must[uint64](g)(g.opendir(rootID))
	if _, errno := g.read(rootID, dir, 0, 10); errno != unix.EBADF {
		t.Errorf("reading a directory: %v", errno)
	}
	if _, errno := g.write(a.node, ha, 0, "x", 0); errno != unix.EBADF {
		t.Errorf("writing a handle for reading: %v", errno)
	}

	// An open file outlives its number being forgotten, as it does in the guest.
	g.forget(a.node, 1)
	if _, errno := g.getattr(a.node); errno != unix.ESTALE {
		t.Errorf("forgotten node: %v", errno)
	}
	if got, errno := g.read(a.node, ha, 0, 10); errno != 0 || got != "first" {
		t.Errorf("open file of a forgotten node: %q, %v", got, errno)
	}
	if again := g.find(rootID, "a"); again.node == a.node {
		t.Error("a number was used twice")
	}
	if errno := g.release(opRelease, a.node, ha); errno != 0 {
		t.Error(errno)
	}
	if _, errno := g.read(a.node, ha, 0, 10); errno != unix.EBADF {
		t.Errorf("released handle: %v", errno)
	}
	if errno := g.release(opRelease, a.node, ha); errno != unix.EBADF {
		t.Errorf("released twice: %v", errno)
	}
	for _, id := range []uint64{0, 99, 1 << 63, ^uint64(0)} {
		if _, errno := g.getattr(id); errno != unix.ESTALE {
			t.Errorf("node %d: %v", id, errno)
		}
		g.forget(id, ^uint64(0))
	}
	g.forget(rootID, ^uint64(0))
	if _, errno := g.getattr(rootID); errno != 0 {
		t.Errorf("the root was forgotten: %v", errno)
	}
	// What was known before DESTROY is not known after the next INIT.
	g.ask(opDestroy, 0, nil)
	if _, errno := g.getattr(rootID); errno != unix.ENOTCONN {
		t.Errorf("after destroy: %v", errno)
	}
	g.ask(opInit, 0, cat(7, 40, 1<<20, 0, zeros(48)))
	if _, errno := g.getattr(b.node); errno != unix.ESTALE {
		t.Errorf("node of the mount before: %v", errno)
	}
}

func TestRemovedAndReplacedFile(t *testing.T) {
	share, secret := tree(t)
	path := filepath.Join(share, "file")
	put(t, path, "mine")
	g := mount(t, Config{Dir: share})
	e := g.find(rootID, "file")
	// The name now leads elsewhere; the number does not.
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(secret, path); err != nil {
		t.Fatal(err)
	}
	if got, errno := g.slurp(e.node); errno != 0 || got != "mine" {
		t.Errorf("read %q, %v", got, errno)
	}
	if _, errno := g.setattr(e.node, change{valid: setMode | setSize, mode: 0o600, size: 1}); errno != 0 {
		t.Error(errno)
	}
	if get(t, secret) != "secret" {
		t.Error("the secret changed")
	}
}
