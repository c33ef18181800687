package trap_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"warder/boot"
	"warder/boot/kernelpkg"
	"warder/internal/testguest"
	"warder/internal/testkvm"
	"warder/secmon/event"
	"warder/secmon/introspect"
	"warder/secmon/trap"
	"warder/vmm"
)

func TestMain(m *testing.M) { testguest.Main(m) }

// kernel reads the guest kernel's symbols and types.
func kernel(t *testing.T) *introspect.Kernel {
	t.Helper()
	pkg, err := kernelpkg.Default(runtime.GOARCH)
	if err != nil {
		t.Fatal(err)
	}
	b, err := boot.Open(pkg.KernelPath, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	k, err := introspect.LoadBoot(b)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// recorder is a sink that keeps the events of one process name and refuses
// what it is told to.
type recorder struct {
	mu     sync.Mutex
	events []event.Event
	refuse func(event.Event) unix.Errno
}

func (r *recorder) sink(e event.Event) unix.Errno {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.events = append(r.events, e)
	if r.refuse != nil {
		return r.refuse(e)
	}
	return 0
}

// take gives the events whose path or file is under prefix, and forgets all.
func (r *recorder) take(prefix string) []event.Event {
	r.mu.Lock()
	defer r.mu.Unlock()
	var found []event.Event
	for _, e := range r.events {
		if len(e.Call.File.Path) >= len(prefix) && e.Call.File.Path[:len(prefix)] == prefix {
			found = append(found, e)
		}
	}
	r.events = nil
	return found
}

// all gives every event so far, and forgets them.
func (r *recorder) all() []event.Event {
	r.mu.Lock()
	defer r.mu.Unlock()
	all := r.events
	r.events = nil
	return all
}

// pause lets the host's half act between two of the guest's: the guest waits
// for a file on the share.
func pause(g *testguest.Guest, name string) {
	g.Report(name, os.Getpid())
	for {
		if _, err := os.Stat("/mnt/share/" + name); err == nil {
			return
		}
		unix.Nanosleep(&unix.Timespec{Nsec: 5e6}, nil)
	}
}

// result is what a call gave the guest: an error's name, or "".
func result(err error) string {
	if err == nil {
		return ""
	}
	if errno, ok := err.(unix.Errno); ok {
		return unix.ErrnoName(errno)
	}
	return err.Error()
}

var acts = testguest.Register("acts", func(g *testguest.Guest) {
	// One thread does all, so that the events' order is known.
	runtime.LockOSThread()
	g.Check(os.MkdirAll("/mnt/share", 0o755))
	g.Check(unix.Mount("files", "/mnt/share", "virtiofs", 0, ""))
	g.Check(os.MkdirAll("/tmp/d/e", 0o755))
	g.Check(os.Symlink("/mnt/share/tool", "/tmp/link"))
	g.Check(os.Symlink("../../mnt/share", "/tmp/d/rel"))
	g.Check(os.Chdir("/tmp/d"))
	pause(g, "armed")

	fd, err := unix.Open("e/../e/.././rel/tool", unix.O_WRONLY|unix.O_APPEND, 0)
	g.Check(err)
	_, err = unix.Write(fd, []byte("appended"))
	g.Check(err)
	_, err = unix.Pwrite(fd, []byte("placed"), 2)
	g.Check(err)
	_, err = unix.Writev(fd, [][]byte{[]byte("in "), {}, []byte("pieces")})
	g.Check(err)
	g.Check(unix.Close(fd))
	fd, err = unix.Open("/mnt/share/tool", unix.O_WRONLY, 0)
	g.Check(err)
	_, err = unix.Pwritev(fd, [][]byte{[]byte("pw"), []byte("v")}, 7)
	g.Check(err)
	_, err = unix.Pwritev2(fd, [][]byte{[]byte("v2")}, -1, 0)
	g.Check(err)
	_, err = unix.Pwritev2(fd, [][]byte{[]byte("end")}, 0, 0x10)
	g.Check(err)
	g.Check(unix.Close(fd))
	dir, err := unix.Open("/mnt/share", unix.O_RDONLY|unix.O_DIRECTORY, 0)
	g.Check(err)
	fd, err = unix.Openat(dir, "new", unix.O_WRONLY|unix.O_CREAT|unix.O_TRUNC, 0o755)
	g.Check(err)
	_, err = unix.Write(fd, bytes.Repeat([]byte("0123456789abcdef"), 1024))
	g.Check(err)
	_, err = unix.Seek(fd, 100, unix.SEEK_SET)
	g.Check(err)
	_, err = unix.Write(fd, []byte("at 100"))
	g.Check(err)
	g.Check(unix.Close(fd))
	_, err = unix.Write(fd, []byte("closed"))
	g.Report("closed", result(err))
	fd, err = unix.Open("/tmp/own", unix.O_WRONLY|unix.O_CREAT, 0o644)
	g.Check(err)
	_, err = unix.Write(fd, []byte("not shared"))
	g.Check(err)
	pause(g, "wrote")

	// What cannot be executed says so; what is refused never gets that far.
	exec := func(path string) string {
		p, err := unix.BytePtrFromString(path)
		g.Check(err)
		return result(execve(p))
	}
	// A path on a page that nobody has touched, one behind a link whose target
	// is too long to be kept in its inode.
	path := make([]byte, os.Getpagesize())
	copy(path, "/mnt/share/tool")
	g.Check(os.WriteFile("/tmp/path", path, 0o644))
	far, err := os.Open("/tmp/path")
	g.Check(err)
	untouched, err := unix.Mmap(int(far.Fd()), 0, len(path), unix.PROT_READ, unix.MAP_PRIVATE)
	g.Check(err)
	g.Check(os.Symlink(strings.Repeat("/.", 100)+"/mnt/share/tool", "/tmp/long"))
	g.Report("hidden", []string{result(execve(&untouched[0])), exec("/tmp/long")})
	g.Report("execs", []string{exec("/tmp/link"), exec("rel/tool"), exec("/mnt/share/inner-link"), exec("/mnt/share/absent"), exec("")})
	pause(g, "executed")
	fd, err = unix.Open("/mnt/share/tool", unix.O_RDONLY, 0)
	g.Check(err)
	g.Check(unix.Close(fd))
	pause(g, "disarmed")
})

// brief is an event without what differs from run to run.
func brief(e event.Event) string {
	c := e.Call
	s := fmt.Sprintf("%s %s %q -> %s", e.VM, c.Name, c.Path, c.File.Path)
	if c.File.Share != "" {
		s += " share " + c.File.Inner
	}
	if c.File.Absent {
		s += " absent"
	}
	if c.Size > 0 {
		s += fmt.Sprintf(" %d bytes at %d append %v %.20q", c.Size, c.Offset, c.Append, c.Payload)
	}
	if c.Missing != 0 {
		s += fmt.Sprint(" missing ", c.Missing.Names())
	}
	return s
}

func briefs(events []event.Event) []string {
	var s []string
	for _, e := range events {
		s = append(s, brief(e))
	}
	return s
}

// TestTrapsSeeWhatAGuestDoes holds the events of a fixed series of calls
// against what the guest did, by name, by link, by descriptor.
func TestTrapsSeeWhatAGuestDoes(t *testing.T) {
	testkvm.Need(t)
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	file := func(name, data string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(data), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	file("tool", "tool's own")
	if err := os.Symlink("tool", filepath.Join(dir, "inner-link")); err != nil {
		t.Fatal(err)
	}
	k := kernel(t)
	r := acts.Start(t, vmm.Config{CPUs: min(2, runtime.NumCPU()), Shares: []vmm.Share{{Tag: "files", Dir: dir}}})
	pid := testguest.Get[uint32](r, "armed")

	shares, err := trap.OpenShares(map[string]string{"files": dir})
	if err != nil {
		t.Fatal(err)
	}
	defer shares.Close()
	rec := &recorder{}
	rec.refuse = func(e event.Event) unix.Errno {
		if e.Call.Name == "execve" && e.Call.File.Inner == "/tool" && e.Call.File.Share == dir {
			return unix.EPERM
		}
		return 0
	}
	calls := []string{"execve", "execveat", "openat", "write", "pwrite64", "writev", "pwritev", "pwritev2"}
	tr, err := trap.Arm(t.Context(), trap.Of(r.Machine), trap.Config{
		VM: "vm", Kernel: k, Calls: calls, Payload: 10000, Shares: shares, Sink: rec.sink,
	})
	if err != nil {
		t.Fatal(err)
	}
	if tr.Guest().Slide() == 0 && runtime.GOARCH == "arm64" {
		t.Error("an arm64 kernel at address 0")
	}
	rec.take("")
	file("armed", "")
	if got := testguest.Get[string](r, "closed"); got != "EBADF" {
		t.Errorf("writing to a closed descriptor gave %q", got)
	}
	testguest.Get[uint32](r, "wrote")
	events := rec.take("")
	var shared []event.Event
	for _, e := range events {
		if e.Process.PID != pid || e.Process.Name == "" || e.Process.UID != 0 {
			t.Errorf("an act of %+v, want pid %d", e.Process, pid)
		}
		if e.Call.File.Share != "" || filepath.Base(e.Call.File.Path) == "own" {
			shared = append(shared, e)
		}
	}
	want := []string{
		`vm openat "e/../e/.././rel/tool" -> /mnt/share/tool share /tool`,
		`vm write "" -> /mnt/share/tool share /tool 8 bytes at 10 append true "appended"`,
		`vm pwrite64 "" -> /mnt/share/tool share /tool 6 bytes at 18 append true "placed"`,
		`vm writev "" -> /mnt/share/tool share /tool 9 bytes at 24 append true "in pieces"`,
		`vm openat "/mnt/share/tool" -> /mnt/share/tool share /tool`,
		`vm pwritev "" -> /mnt/share/tool share /tool 3 bytes at 7 append false "pwv"`,
		`vm pwritev2 "" -> /mnt/share/tool share /tool 2 bytes at 0 append false "v2"`,
		`vm pwritev2 "" -> /mnt/share/tool share /tool 3 bytes at 33 append true "end"`,
		`vm openat "/mnt/share" -> /mnt/share share /`,
		`vm openat "new" -> /mnt/share/new share /new absent`,
		`vm write "" -> /mnt/share/new share /new 16384 bytes at 0 append false "0123456789abcdef0123"`,
		`vm write "" -> /mnt/share/new share /new 6 bytes at 100 append false "at 100"`,
		`vm openat "/tmp/own" -> /tmp/own absent`,
		`vm write "" -> /tmp/own 10 bytes at 0 append false ""`,
	}
	if d := cmp.Diff(want, briefs(shared)); d != "" {
		t.Errorf("events (-want +got):\n%s", d)
	}
	for _, e := range shared {
		info, err := os.Stat(filepath.Join(dir, e.Call.File.Inner))
		if e.Call.File.Share == "" || e.Call.File.Absent || err != nil {
			continue
		}
		if st := info.Sys().(*syscall.Stat_t); e.Call.File.Inode != st.Ino || e.Call.File.Device != st.Dev {
			t.Errorf("%s is inode %d on %d, reported as %d on %d", e.Call.File.Path, st.Ino, st.Dev, e.Call.File.Inode, e.Call.File.Device)
		}
	}
	if i := slices.IndexFunc(shared, func(e event.Event) bool { return e.Call.Size == 16384 }); i >= 0 && len(shared[i].Call.Payload) != 10000 {
		t.Errorf("%d bytes of payload, want the 10000 that were asked for", len(shared[i].Call.Payload))
	}

	file("wrote", "")
	if d := cmp.Diff([]string{"EPERM", "EPERM"}, testguest.Get[[]string](r, "hidden")); d != "" {
		t.Errorf("what execve of hidden paths gave the guest (-want +got):\n%s", d)
	}
	if d := cmp.Diff([]string{"EPERM", "EPERM", "EPERM", "ENOENT", "ENOENT"}, testguest.Get[[]string](r, "execs")); d != "" {
		t.Errorf("what execve gave the guest (-want +got):\n%s", d)
	}
	testguest.Get[uint32](r, "executed")
	var execs []event.Event
	for _, e := range rec.take("") {
		if e.Call.Name == "execve" {
			execs = append(execs, e)
		}
	}
	for _, e := range execs {
		content, err := os.ReadFile(filepath.Join(dir, e.Call.File.Inner))
		if held := e.Call.File.Share != "" && err == nil; held != (len(e.Call.Payload) > 0) || held && !bytes.Equal(e.Call.Payload, content) {
			t.Errorf("%s: %d bytes of %s", e.Call.Path, len(e.Call.Payload), e.Call.File.Path)
		}
	}
	want = []string{
		`vm execve "" ->  missing [path file]`,
		`vm execve "/mnt/share/tool" -> /mnt/share/tool share /tool missing [args]`,
		`vm execve "/tmp/long" ->  missing [file]`,
		`vm execve "/tmp/long" -> /mnt/share/tool share /tool missing [args]`,
		`vm execve "/tmp/link" -> /mnt/share/tool share /tool`,
		`vm execve "rel/tool" -> /mnt/share/tool share /tool`,
		`vm execve "/mnt/share/inner-link" -> /mnt/share/tool share /tool`,
		`vm execve "/mnt/share/absent" -> /mnt/share/absent share /absent absent`,
		`vm execve "" -> `,
	}
	if d := cmp.Diff(want, briefs(execs)); d != "" {
		t.Errorf("execs (-want +got):\n%s", d)
	}
	if s := tr.Stats(); s.Denied != 5 || s.Hits == 0 || s.Strays != 0 || s.Undecoded != 2 {
		t.Errorf("stats %+v", s)
	}

	if err := tr.Disarm(t.Context()); err != nil {
		t.Fatal(err)
	}
	rec.take("")
	file("executed", "")
	testguest.Get[uint32](r, "disarmed")
	if got := rec.take(""); len(got) != 0 {
		t.Errorf("%d events after the traps were taken off", len(got))
	}
	file("disarmed", "")
	r.Finish()
}
