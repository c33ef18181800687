package strace

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"warder/secmon/event"
)

func TestParseSet(t *testing.T) {
	for expr, want := range map[string]string{
		"trace=openat,execve": "execve openat", "openat": "openat", "t=close": "close", "none": "", "!all": "",
		"read,?nothing": "read", "%clock,!": "x", "%pure": "getegid geteuid getgid getpgrp getpid getppid gettid getuid",
	} {
		set, err := ParseSet("amd64", []string{expr})
		if want == "x" {
			if err == nil {
				t.Errorf("%s: %v", expr, set.Names())
			}
			continue
		}
		if got := strings.Join(set.Names(), " "); err != nil || !contains(got, want) {
			t.Errorf("%s: %q, %v", expr, got, err)
		}
	}
	all, err := ParseSet("amd64", nil)
	if err != nil || len(all) < 300 {
		t.Errorf("%d calls, %v", len(all), err)
	}
	file, err := ParseSet("arm64", []string{"%file"})
	if err != nil || !file["openat"] || !file["execve"] || file["read"] || file["open"] && !file["statx"] {
		t.Errorf("%%file: %v, %v", file.Names(), err)
	}
	desc, err := ParseSet("amd64", []string{"%desc"})
	if err != nil || !desc["read"] || !desc["openat"] || desc["getpid"] {
		t.Errorf("%%desc: %v, %v", desc.Names(), err)
	}
	but, err := ParseSet("amd64", []string{"read", "!read,write"})
	if err != nil || but["read"] || but["write"] || len(but) != len(all)-2 {
		t.Errorf("all but two are %d, %v", len(but), err)
	}
	// A class names no call that does not exist.
	for c, names := range classes {
		for _, n := range strings.Fields(names) {
			if !callsOf("amd64")[n] && !callsOf("arm64")[n] {
				t.Errorf("%%%s has %s, which no architecture has", c, n)
			}
		}
	}
	for _, expr := range []string{"nonsense", "%nonsense", "signal=SIGINT", "", "read,,write"} {
		if set, err := ParseSet("amd64", []string{expr}); err == nil {
			t.Errorf("%q: %v", expr, set.Names())
		}
	}
}

func contains(got, want string) bool { return got == want }

// call is the event of a thread's call.
func call(pid, tid, parent uint32, name string, result int64) event.Event {
	return event.Event{
		Kind: event.Syscall, Process: event.Process{PID: pid, TID: tid, Parent: parent},
		Call: event.Call{Name: name, ABI: "amd64", Returned: true, Result: result},
	}
}

func execve(pid, parent uint32, args ...string) event.Event {
	e := call(pid, pid, parent, "execve", 0)
	e.Call.Returned, e.Call.Read = false, 1<<1
	e.Call.Data[1] = strings.Join(args, "\x00") + "\x00"
	return e
}

// run has a tracer see events, those of execve and exit_group when they begin,
// all but exit_group when they end.
func run(cfg Config, events ...event.Event) []string {
	cfg.Arch = "amd64"
	var got []string
	t := New(cfg, func(e event.Event) { got = append(got, e.Call.Name) })
	for _, e := range events {
		begin := e
		begin.Call.Returned = false
		t.Entered(begin)
		if e.Call.Name != "exit_group" {
			e.Call.Returned = true
			t.Returned(e)
		}
	}
	return got
}

func TestTracer(t *testing.T) {
	every, err := ParseSet("amd64", nil)
	if err != nil {
		t.Fatal(err)
	}
	some := Set{"read": true, "exit_group": true}
	events := []event.Event{
		call(1, 1, 0, "openat", 3),
		execve(7, 1, "other"),
		execve(8, 1, "cmd", "a b"),
		call(8, 8, 1, "read", 1),
		call(8, 9, 1, "write", 1), // a thread
		call(8, 8, 1, "clone", 10),
		call(10, 10, 8, "getpid", 10), // a child
		call(11, 11, 10, "chdir", 0),  // its child, seen before its parent returns
		call(7, 7, 1, "mount", 0),
		call(8, 8, 1, "exit_group", 0),
		call(8, 8, 1, "umask", 0), // somebody else, who got the number
		call(10, 10, 1, "getppid", 1),
	}
	for name, c := range map[string]struct {
		cfg  Config
		want []string
	}{
		"command":           {Config{Calls: every, Command: []string{"cmd", "a b"}}, []string{"execve", "read", "clone", "exit_group"}},
		"command, followed": {Config{Calls: every, Command: []string{"cmd", "a b"}, Follow: true}, []string{"execve", "read", "write", "clone", "getpid", "chdir", "exit_group", "getppid"}},
		"some calls":        {Config{Calls: some, Command: []string{"cmd", "a b"}, Follow: true}, []string{"read", "exit_group"}},
		"another command":   {Config{Calls: every, Command: []string{"cmd"}}, nil},
		"a process":         {Config{Calls: every, PIDs: []uint32{7}}, []string{"execve", "mount"}},
		"all":               {Config{Calls: some}, []string{"read", "exit_group"}},
	} {
		if d := cmp.Diff(c.want, run(c.cfg, events...)); d != "" {
			t.Errorf("%s (-want +got):\n%s", name, d)
		}
	}
	traps := New(Config{Arch: "arm64", Calls: some, Command: []string{"cmd"}, Follow: true}, nil).Traps()
	if want := []string{"clone", "clone3", "execve", "exit_group", "fork", "read", "vfork"}; !slices.Equal(traps, want) {
		t.Errorf("trapped are %v", traps)
	}
}

// The lines are as strace 6.1 has written them.
func TestLine(t *testing.T) {
	openat := call(8, 9, 1, "openat", 3)
	openat.Call.Args = [6]uint64{0xffffff9c, 0x1000, 0x80000}
	openat.Call.Data[1], openat.Call.Read = "/etc/ld.so.cache", 1<<1
	absent := openat
	absent.Call.Result = -2
	end := call(8, 8, 1, "exit_group", 0)
	end.Call.Returned = false
	read := call(8, 8, 1, "close", 0)
	read.Call.Args[0] = 3
	for want, e := range map[string]event.Event{
		`openat(AT_FDCWD, "/etc/ld.so.cache", O_RDONLY|O_CLOEXEC) = 3`:                                     openat,
		`openat(AT_FDCWD, "/etc/ld.so.cache", O_RDONLY|O_CLOEXEC) = -1 ENOENT (No such file or directory)`: absent,
		`exit_group(0)                           = ?`:                                                      end,
		`close(3)                                = 0`:                                                      read,
	} {
		if got := Line(&e, 32, false); got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	}
	if got, want := Line(&read, 32, true), `[pid     8] close(3)                    = 0`; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}
