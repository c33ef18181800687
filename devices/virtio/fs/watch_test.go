package fs

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

// curious is a watcher that looks at all there is to an access.
type curious struct{}

func (curious) Content() int { return 8 }

func (curious) Access(a *Access) error {
	if !strings.HasPrefix(a.Path(), "/") || a.Length() < 0 || len(a.Content) > 8 || int64(len(a.Content)) > a.Size {
		panic(fmt.Sprintf("%+v", a))
	}
	_, _ = a.ReadAt(make([]byte, 8), a.Offset) // not of every file
	return nil
}

// ear notes accesses, and refuses those that it is told to. Each worker of a queue is
// one more who calls it.
type ear struct {
	mu     sync.Mutex
	seen   []string
	refuse AccessKind
	error  unix.Errno
}

func (e *ear) Content() int { return 4 }

func (e *ear) Access(a *Access) error {
	if a.Done {
		return nil
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.seen = append(e.seen, fmt.Sprintf("%d %s %d+%d %q", a.Kind, a.Path(), a.Offset, a.Size, a.Content))
	if e.error != 0 && a.Kind == e.refuse {
		return e.error
	}
	return nil
}

func (e *ear) heard() []string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.Clone(e.seen)
}

func (e *ear) tell(refuse AccessKind, with unix.Errno) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.refuse, e.error = refuse, with
}

// TestWatcher is what a watcher sees of each kind of access, and that one that it refuses has
// no effect.
func TestWatcher(t *testing.T) {
	share, _ := tree(t)
	e := &ear{}
	d := newDriver(t, newDevice(t, Config{Dir: share, Watcher: e}))
	b, errno := d.ask(opMkdir, rootID, cat(0o755, 0, "dir\x00"), entrySize)
	if errno != 0 {
		t.Fatal(errno)
	}
	b, errno = d.ask(opCreate, parseEntry(b).node, cat(unix.O_RDWR, 0o644, 0, 0, "file\x00"), entrySize+openReply)
	if errno != 0 {
		t.Fatal(errno)
	}
	node, handle := parseEntry(b).node, le.Uint64(b[entrySize:])
	const punch = unix.FALLOC_FL_PUNCH_HOLE | unix.FALLOC_FL_KEEP_SIZE
	do := func() (errors []unix.Errno) {
		for _, r := range []struct {
			op   opcode
			args []byte
			room int
		}{
			{opWrite, writeArgs(handle, 2, "0123456789", 0), 8},
			{opRead, readArgs(handle, 1, 100), 100},
			{opFallocate, cat(handle, uint64(3), uint64(2), punch, 0), 0},
			{opOpen, cat(unix.O_WRONLY|unix.O_TRUNC, 0), openReply},
		} {
			_, errno := d.ask(r.op, node, r.args, r.room)
			errors = append(errors, errno)
		}
		return errors
	}
	if got := do(); !slices.Equal(got, []unix.Errno{0, 0, 0, 0}) {
		t.Fatalf("%v", got)
	}
	want := []string{`3 /dir/file 0+0 ""`, `1 /dir/file 2+10 "0123"`, `0 /dir/file 1+100 ""`, `1 /dir/file 3+2 ""`, `2 /dir/file 0+0 ""`}
	if got := e.heard(); !slices.Equal(got, want) {
		t.Errorf("seen\n%q, want\n%q", got, want)
	}
	path := filepath.Join(share, "dir/file")
	for kind, want := range map[AccessKind][]unix.Errno{
		Write: {unix.EPERM, 0, unix.EPERM, 0}, Read: {0, unix.EPERM, 0, 0}, Truncate: {0, 0, 0, unix.EPERM},
	} {
		e.tell(kind, unix.EPERM)
		if got := do(); !slices.Equal(got, want) {
			t.Errorf("kind %d refused: %v, want %v", kind, got, want)
		}
	}
	put(t, path, "as it was")
	e.tell(Write, unix.EPERM)
	if _, errno := d.ask(opWrite, node, writeArgs(handle, 2, "0123456789", 0), 8); errno != unix.EPERM || get(t, path) != "as it was" {
		t.Errorf("a refused write: %v, and the file has %q", errno, get(t, path))
	}
}
