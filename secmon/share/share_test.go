package share_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"warder/secmon/event"
)

// line is what a test looks at of an event.
func line(e event.Event) string {
	c := &e.Call
	s := fmt.Sprintf("%s %s", e.Action, e.VM)
	if e.Net != nil {
		s += ">" + e.Net.DestinationVM
	}
	s += fmt.Sprintf(" %s %d+%d", c.File.Inner, c.Offset, c.Size)
	if len(c.Payload) > 0 {
		s += fmt.Sprintf(" %q", c.Payload)
	}
	if e.Net != nil && len(e.Net.Payload) > 0 {
		s += fmt.Sprintf(" %q", e.Net.Payload)
	}
	return s
}

func (w *world) expect(want ...string) {
	w.t.Helper()
	var got []string
	for _, e := range w.told() {
		got = append(got, line(e))
	}
	if !slices.Equal(got, want) {
		w.t.Errorf("told\n%q, want\n%q", got, want)
	}
}

// TestMessages has VMs write and read one file, which one of them has by another
// directory.
func TestMessages(t *testing.T) {
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "sub"), 0o755); err != nil {
		t.Fatal(err)
	}
	w := newWorld(t)
	w.message = 4
	a, b, c := w.guest("a", dir), w.guest("b", filepath.Join(dir, "sub")), w.guest("c", dir)
	if errno := a.write("sub/file", unix.O_WRONLY|unix.O_CREAT, 0, "hello there"); errno != 0 {
		t.Fatal(errno)
	}
	a.read("sub/file", 0, 100) // its own
	w.expect()
	if got, errno := b.read("file", 6, 100); got != "there" || errno != 0 {
		t.Fatalf("%q, %v", got, errno)
	}
	events := w.told()
	if len(events) != 1 || line(events[0]) != `file a>b /file 6+5 "ther"` {
		t.Fatalf("told %+v", events)
	}
	e := events[0]
	var st unix.Stat_t
	if err := unix.Stat(filepath.Join(dir, "sub/file"), &st); err != nil {
		t.Fatal(err)
	}
	f := &e.Call.File
	if f.Inode != st.Ino || f.Device != st.Dev || f.Share != filepath.Join(dir, "sub") || f.Path != filepath.Join(dir, "sub/file") || f.Size != 11 ||
		e.Process.PID != 77 || e.Process.UID != 1000 || e.Kind != event.Packet || e.Net.Flow != event.FileFlowID(st.Dev, st.Ino) || !strings.HasPrefix(e.Message, "b reads 5 bytes of "+f.Path+" at 6 that a wrote ") {
		t.Errorf("%+v", e)
	}
	b.read("file", 0, 100) // the rest of it is news
	b.read("file", 0, 100)
	w.expect(`file a>b /file 0+6 "hell"`)
	c.write("sub/file", unix.O_WRONLY, 2, "XYZ") // another's, in the midst
	b.read("file", 0, 100)
	c.read("sub/file", 0, 100)
	w.expect(`file c>b /file 2+3 "XYZ"`, `file a>c /sub/file 0+2 "he"`, `file a>c /sub/file 5+6 " the"`)
	a.write("sub/file", unix.O_WRONLY|unix.O_APPEND, 0, "!!")
	b.read("file", 0, 100)
	w.expect(`file a>b /file 11+2 "!!"`)
	if s := w.mon.Stats(); s.Messages != 6 || s.Files != 1 || s.Evicted != 0 {
		t.Errorf("%+v", s)
	}
}

// TestWhatIsGone is not told: what was cut off, and a file whose number another has.
func TestWhatIsGone(t *testing.T) {
	dir := t.TempDir()
	w := newWorld(t)
	a, b := w.guest("a", dir), w.guest("b", dir)
	a.write("f", unix.O_WRONLY|unix.O_CREAT, 0, "0123456789")
	const setSize = 1 << 3
	node, _ := b.open("f", unix.O_RDWR)
	b.must(b.ask(opSetattr, node, cat(uint32(setSize), uint32(0), uint64(0), uint64(4), make([]byte, 64)), 104))
	if err := os.Truncate(filepath.Join(dir, "f"), 10); err != nil {
		t.Fatal(err)
	}
	b.read("f", 0, 100)
	w.expect("file a>b /f 0+4")
	a.write("f", unix.O_WRONLY|unix.O_TRUNC, 0, "x")
	b.read("f", 0, 100)
	w.expect("file a>b /f 0+1")
	a.write("f", unix.O_WRONLY, 0, "y")
	a.open("f", unix.O_WRONLY|unix.O_TRUNC)
	b.read("f", 0, 100)
	w.expect()
}

// TestActs is with rules that look at what is written and read.
func TestActs(t *testing.T) {
	dir := t.TempDir()
	w := newWorld(t)
	w.content = 8
	a, b := w.guest("a", dir), w.guest("b", dir)
	a.write("f", unix.O_RDWR|unix.O_CREAT, 0, "0123456789")
	b.read("f", 5, 100)
	w.expect(`share-create a /f 0+0`, `share-write a /f 0+10 "01234567"`, `file a>b /f 5+5`, `share-read b /f 5+100 "01234567"`)
	from, fromHandle := a.open("f", unix.O_RDONLY)
	to, toHandle := a.open("g", unix.O_RDWR|unix.O_CREAT)
	w.told()
	a.must(a.ask(opCopy, from, cat(fromHandle, uint64(8), to, toHandle, uint64(3), uint64(2), uint64(0)), 8))
	w.expect(`share-read a /f 8+2 "01234567"`, `share-write a /g 3+2 "89"`)
	b.read("g", 0, 10)
	w.expect(`file a>b /g 3+2`, `share-read b /g 0+10 "\x00\x00\x0089"`)
}

// TestRefused has accesses refused: they have no effect.
func TestRefused(t *testing.T) {
	dir := t.TempDir()
	w := newWorld(t)
	a, b := w.guest("a", dir), w.guest("b", dir)
	a.write("f", unix.O_WRONLY|unix.O_CREAT, 0, "secret")
	w.block = func(e *event.Event) bool { return e.Action == event.FileMessage || string(e.Call.Payload) == "bad" }
	if got, errno := b.read("f", 0, 100); got != "" || errno != unix.EPERM {
		t.Errorf("read %q, %v", got, errno)
	}
	w.content = 100
	for data, want := range map[string]unix.Errno{"bad": unix.EPERM, "good": 0} {
		if errno := a.write("f", unix.O_WRONLY, 0, data); errno != want {
			t.Errorf("write of %q: %v", data, errno)
		}
	}
	if got, err := os.ReadFile(filepath.Join(dir, "f")); string(got) != "goodet" {
		t.Errorf("the file has %q, %v", got, err)
	}
}

// TestBounds writes more files, and more ranges, than are known at a time.
func TestBounds(t *testing.T) {
	dir := t.TempDir()
	w := newWorld(t)
	a, b := w.guest("a", dir), w.guest("b", dir)
	for i := range 10 {
		a.write(fmt.Sprint("f", i), unix.O_WRONLY|unix.O_CREAT, 0, "x")
	}
	for i := range uint64(300) {
		a.write("f9", unix.O_WRONLY, 2*i, "x")
	}
	if s := w.mon.Stats(); s.Files != 8 || s.Evicted != 2+300-256 {
		t.Errorf("%+v", s)
	}
	soon, cancel := context.WithCancel(t.Context())
	cancel()
	w.mon.Run(soon)
	w.mon.Run(soon)
	if told := w.told(); len(told) != 1 || told[0].Kind != event.Loss || told[0].Lost != 46 {
		t.Errorf("told of what had to go: %+v", told)
	}
	b.read("f0", 0, 1)
	b.read("f9", 0, 1000)
	if told := w.told(); len(told) != 256 {
		t.Errorf("%d messages", len(told))
	}
}
