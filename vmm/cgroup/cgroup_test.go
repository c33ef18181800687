package cgroup

import (
	"errors"
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
	} {
		if got, _ := parseSelf(in); got != want {
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
