package cgroup_test

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"warder/internal/testkvm"
	"warder/vmm/cgroup"
)

// need makes sure that the tests may make groups as they like.
func need(t *testing.T) (top string) {
	t.Helper()
	if !testkvm.InLab() {
		testkvm.Missing(t, "groups are made where no other process is disturbed")
	}
	p := cgroup.Find()
	if err := p.Check(); err != nil || os.Getuid() != 0 {
		testkvm.Missing(t, fmt.Sprintf("root in a delegated group: %v", err))
	}
	return p.Dir
}

// where is the group that the calling thread is in, as the kernel says.
func where(t *testing.T) string {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/self/task/%d/cgroup", unix.Gettid()))
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(strings.TrimPrefix(string(b), "0::"))
}

func read(t *testing.T, path ...string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(path...))
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(b))
}

func TestGroup(t *testing.T) {
	top := need(t)
	g, err := cgroup.New("a/../b", 250)
	if err != nil {
		t.Fatal(err)
	}
	if dir := filepath.Dir(g.Dir()); dir != top {
		t.Errorf("the group is in %s, want %s", dir, top)
	}
	for file, want := range map[string]string{"cgroup.type": "threaded", "cpu.weight": "250"} {
		if got := read(t, g.Dir(), file); got != want {
			t.Errorf("%s: %q, want %q", file, got, want)
		}
	}
	if err := g.SetWeight(400); err != nil || read(t, g.Dir(), "cpu.weight") != "400" {
		t.Errorf("weight %s, %v", read(t, g.Dir(), "cpu.weight"), err)
	}
	if err := g.SetWeight(20000); err == nil {
		t.Error("a weight that there is not")
	}
	func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		before := where(t)
		if err := g.Enter(); err != nil {
			t.Fatal(err)
		}
		if got, want := where(t), filepath.Join(before, filepath.Base(g.Dir())); got != want {
			t.Errorf("the thread is in %s, want %s", got, want)
		}
		if err := g.Close(); err == nil {
			t.Error("a group was removed with a thread in it")
		}
		if err := g.Leave(); err != nil {
			t.Fatal(err)
		}
		if got := where(t); got != before {
			t.Errorf("the thread is in %s again, want %s", got, before)
		}
	}()
	if err := g.Close(); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(g.Dir()); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%s is there still: %v", g.Dir(), err)
	}
}

// asChild has this binary say what it finds in a group that it joins, or with its first
// thread in a group, or wait for the end of its input.
const (
	asChild = "WARDER_TEST_CGROUP"
	leads   = "leads"
	waits   = "waits"
)

// From here on the first thread is main's.
func init() {
	if os.Getenv(asChild) == leads {
		runtime.LockOSThread()
	}
}

func TestMain(m *testing.M) {
	switch dir, ok := os.LookupEnv(asChild); {
	case dir == leads:
		fmt.Println(leader())
		os.Exit(0)
	case dir == waits:
		io.Copy(io.Discard, os.Stdin)
		os.Exit(0)
	case ok:
		fmt.Println(child(dir))
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// leader makes a group while the first thread is in another, as a vCPU's can be.
func leader() (err error) {
	if unix.Gettid() != os.Getpid() {
		return errors.New("this is not the first thread")
	}
	first, err := cgroup.New("first", 10)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, first.Leave(), first.Close()) }()
	if err := first.Enter(); err != nil {
		return err
	}
	second, err := cgroup.New("second", 10)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, second.Close()) }()
	if filepath.Dir(second.Dir()) != filepath.Dir(first.Dir()) {
		return fmt.Errorf("%s is not beside %s", second.Dir(), first.Dir())
	}
	return nil
}

func child(dir string) error {
	if dir != "" {
		if err := cgroup.Join(dir); err != nil {
			return err
		}
	}
	g, err := cgroup.New("x", 10)
	if err != nil {
		return err
	}
	runtime.LockOSThread()
	return errors.Join(g.Enter(), g.Leave(), g.Close())
}

// inChild runs a child that joins dir, as user uid that starts there.
func inChild(t *testing.T, dir string, uid uint32) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "/proc/self/exe")
	cmd.Env = append(os.Environ(), asChild+"="+dir)
	cmd.SysProcAttr = &syscall.SysProcAttr{}
	if uid != 0 {
		fd, err := os.Open(dir)
		if err != nil {
			t.Fatal(err)
		}
		defer fd.Close()
		cmd.Env[len(cmd.Env)-1] = asChild + "="
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: uid, Gid: uid}
		cmd.SysProcAttr.UseCgroupFD, cmd.SysProcAttr.CgroupFD = true, int(fd.Fd())
	}
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return strings.TrimSpace(string(out))
}

// group makes a group below top that ends with the test.
func group(t *testing.T, path ...string) string {
	t.Helper()
	dir := filepath.Join(path...)
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.Remove(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// TestFirstThread has a process make a group while its first thread is in one that it has made.
func TestFirstThread(t *testing.T) {
	need(t)
	if said := inChild(t, leads, 0); said != "<nil>" {
		t.Error(said)
	}
}

func TestJoin(t *testing.T) {
	dir := filepath.Join(need(t), "joined")
	t.Cleanup(func() {
		if err := os.Remove(dir); err != nil {
			t.Error(err)
		}
	})
	for range 2 { // made, then there
		if said := inChild(t, dir, 0); said != "<nil>" {
			t.Error(said)
		}
	}
	if said := inChild(t, filepath.Join(dir, "far/off"), 0); !strings.Contains(said, "no such file") {
		t.Error(said)
	}
}

// TestDelegated has a user make groups, first where it must not.
func TestDelegated(t *testing.T) {
	dir := group(t, need(t), "delegated")
	const uid = 65534
	if said := inChild(t, dir, uid); !strings.Contains(said, "may not make groups in "+dir) || !strings.Contains(said, "systemd-run") {
		t.Error(said)
	}
	for _, file := range []string{"", "cgroup.procs", "cgroup.threads", "cgroup.subtree_control"} {
		if err := os.Chown(filepath.Join(dir, file), uid, uid); err != nil {
			t.Fatal(err)
		}
	}
	if said := inChild(t, dir, uid); said != "<nil>" {
		t.Error(said)
	}
}

func TestInTheWay(t *testing.T) {
	busy := group(t, need(t), "busy")
	other := exec.CommandContext(t.Context(), "/proc/self/exe")
	other.Env = append(os.Environ(), asChild+"="+waits)
	stdin, err := other.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	fd, err := os.Open(group(t, busy, "other"))
	if err != nil {
		t.Fatal(err)
	}
	defer fd.Close()
	other.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(fd.Fd())}
	if err := other.Start(); err != nil {
		t.Fatal(err)
	}
	if said := inChild(t, busy, 0); !strings.Contains(said, "groups of other processes") {
		t.Error(said)
	}
	stdin.Close()
	if err := other.Wait(); err != nil {
		t.Error(err)
	}
}
