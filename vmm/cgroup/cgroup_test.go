package cgroup

import (
	"errors"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

func TestParseSelf(t *testing.T) {
	for in, want := range map[string]string{
		"0::/user.slice/session-1.scope\n":       "/user.slice/session-1.scope",
		"12:pids:/x\n1:name=systemd:/y\n0::/z\n": "/z",
		"1:name=systemd:/y\n":                    "",
		"":                                       "",
		"0::/a/warder-12-vm-3":                   "/a",
		"0::/warder-12-vm-3/warder-12-other-4\n": "/",
		"0::/warder-123-vm-3\n":                  "/warder-123-vm-3",
		"0::/warder-12-vm-3/leaf\n":              "/warder-12-vm-3/leaf",
	} {
		if got, _ := parseSelf(in, 12); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}

func TestAt(t *testing.T) {
	dir := t.TempDir()
	if d := cmp.Diff(Place{}, at(dir)); d != "" {
		t.Errorf("a directory that is no group:\n%s", d)
	}
	write := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("cgroup.controllers", "cpu memory pids\n")
	write("cgroup.procs", "")
	write("cgroup.threads", "")
	want := Place{Dir: dir, Controllers: []string{"cpu", "memory", "pids"}}
	if d := cmp.Diff(want, at(dir)); d != "" {
		t.Errorf("not delegated (-want +got):\n%s", d)
	}
	write("cgroup.subtree_control", "")
	want.Delegated = true
	if d := cmp.Diff(want, at(dir)); d != "" {
		t.Errorf("delegated (-want +got):\n%s", d)
	}
	if err := want.Check(); err != nil {
		t.Error(err)
	}
}

func TestCheck(t *testing.T) {
	for want, p := range map[string]Place{
		"no cgroup v2":                     {},
		"may not make groups in /x":        {Dir: "/x", Controllers: []string{"cpu"}},
		"/x has no cpu controller; start ": {Dir: "/x", Controllers: []string{"cpuset", "memory"}, Delegated: true},
	} {
		err := p.Check()
		if u, ok := errors.AsType[*UnavailableError](err); !ok || u.Todo == "" || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: error %v, want one that says %q and what to do", p, err, want)
		}
	}
}

func TestCheckWeight(t *testing.T) {
	for weight, ok := range map[int]bool{0: true, 1: true, 10000: true, -1: false, 10001: false} {
		if err := CheckWeight(weight); (err == nil) != ok {
			t.Errorf("%d: %v", weight, err)
		}
	}
}

func TestFileName(t *testing.T) {
	long := strings.Repeat("a", 100)
	for in, want := range map[string]string{"a-B.9": "a-B_9", "../x*": "___x_", "": "", long: long[:64]} {
		if got := fileName(in); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}

func TestMemoryLeft(t *testing.T) {
	top := t.TempDir()
	slice := filepath.Join(top, "slice")
	scope := filepath.Join(slice, "scope")
	if err := os.MkdirAll(scope, 0o755); err != nil {
		t.Fatal(err)
	}
	expect := func(what string, want uint64) {
		t.Helper()
		if got := memoryLeft(scope, top); got != want {
			t.Errorf("%s: %d left, want %d", what, got, want)
		}
	}
	set := func(dir, most, current, memoryStat string) {
		t.Helper()
		for file, text := range map[string]string{"memory.max": most, "memory.current": current, "memory.stat": memoryStat} {
			if err := os.WriteFile(filepath.Join(dir, file), []byte(text+"\n"), 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	set(top, "1", "1", "") // the root itself is no bound
	expect("no controller", math.MaxUint64)
	set(scope, "max", "700", "anon 500\nfile 200\nshmem 100")
	expect("no bound", math.MaxUint64)
	set(slice, "1000", "800", "anon 500\nfile 300\nshmem 100")
	expect("a bound above", 400)
	set(scope, "750", "700", "anon 500\nfile 200\nshmem 100")
	expect("a lower one", 150)
	set(scope, "300", "700", "anon 700")
	expect("beyond the bound", 0)
}

func TestUnavailable(t *testing.T) {
	for err, want := range map[error]string{
		unix.EOPNOTSUPP: "groups of other processes", unix.EBUSY: "groups of other processes",
		unix.EACCES: "may not make groups", unix.EROFS: "may not make groups", unix.ENOSPC: "no space left",
	} {
		if got := unavailable("/x", &os.PathError{Op: "write", Path: "/x/y", Err: err}); !strings.Contains(got.Error(), want) {
			t.Errorf("%v: %v, want it to say %q", err, got, want)
		}
	}
}
