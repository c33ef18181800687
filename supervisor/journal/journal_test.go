package journal

import (
	"bufio"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"warder/supervisor/declaration"
)

// asWriter makes this test binary a host that writes until it is killed.
const asWriter = "WARDER_TEST_WRITE_JOURNAL"

func TestMain(m *testing.M) {
	if dir := os.Getenv(asWriter); dir != "" {
		write(dir)
	}
	os.Exit(m.Run())
}

// write starts services 0, 1, 2 and so on, each of which ends when the third
// after it has been started, and says what is done.
func write(dir string) {
	j, err := Open(dir)
	for i := 0; err == nil; i++ {
		if err = j.Started(strconv.Itoa(i), "me"); err == nil {
			fmt.Println(i)
		}
		if i >= 3 && err == nil {
			err = j.Ended(strconv.Itoa(i - 3))
		}
	}
	fmt.Println(err)
	os.Exit(1)
}

func open(t *testing.T, dir string) *Journal {
	t.Helper()
	j, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { j.Close() })
	return j
}

func TestJournal(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	j := open(t, dir)
	web := declaration.Service{Name: "web", LAN: &declaration.LAN{VLAN: "front", Address: netip.MustParseAddr("10.1.0.2"), Publish: declaration.List{"127.0.0.1:80:80"}}, Memory: declaration.Memory{Start: 64 << 20}, Attachments: declaration.Attachments{Disks: []string{"/d"}}, Health: &declaration.Health{Command: []string{"x"}, Interval: 5}}
	has := []netip.Addr{netip.MustParseAddr("10.1.0.2"), netip.MustParseAddr("fd01::2")}
	for _, err := range []error{
		j.Declared(declaration.Service{Name: "old"}, nil), j.Declared(web, has), j.Declared(declaration.Service{Name: "a"}, nil), j.Removed("old"),
		j.Started("web", "uid 0"), j.Started("b", "uid 1"), j.Ended("b"), j.Ended("nobody"),
	} {
		if err != nil {
			t.Error(err)
		}
	}
	if _, err := Open(dir); err == nil || !strings.Contains(err.Error(), "another host") {
		t.Errorf("opened twice: %v", err)
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	j = open(t, dir)
	got, err := j.Services()
	if d := cmp.Diff([]Service{{Service: declaration.Service{Name: "a"}}, {web, has}}, got, cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); d != "" || err != nil {
		t.Errorf("%v (-want +got):\n%s", err, d)
	}
	running, err := j.Running()
	if err != nil || len(running) != 1 || running["web"].By != "uid 0" || running["web"].Time.IsZero() {
		t.Errorf("%+v, %v", running, err)
	}
	for _, name := range []string{dir, filepath.Join(dir, file)} {
		if st, err := os.Stat(name); err != nil || st.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s: %v, %v", name, st.Mode(), err)
		}
	}
}

func TestDamage(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, file), []byte(strings.Repeat("no journal ", 4096)), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(dir); err == nil || !strings.Contains(err.Error(), "move it away") {
		t.Errorf("error %v", err)
	}
	other := t.TempDir()
	j := open(t, other)
	if err := j.put(declaredBucket, "bad", []int{1}); err != nil {
		t.Fatal(err)
	}
	if err := j.Declared(declaration.Service{Name: "good"}, nil); err != nil {
		t.Fatal(err)
	}
	if got, err := j.Services(); err == nil || len(got) != 1 || got[0].Name != "good" {
		t.Errorf("%+v, %v", got, err)
	}
}

// A host that is killed at any moment has in its journal what it has said was
// done, and at most the one thing more that it was about to say.
func TestKilledHost(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for _, after := range []int{0, 1, 5, 40} {
		dir := t.TempDir()
		cmd := exec.CommandContext(t.Context(), self)
		cmd.Env = append(os.Environ(), asWriter+"="+dir)
		said, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(said)
		last := -1
		for last < after && lines.Scan() {
			if last, err = strconv.Atoi(lines.Text()); err != nil {
				t.Fatal(lines.Text())
			}
		}
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		for lines.Scan() { // what it has said before it died
			if last, err = strconv.Atoi(lines.Text()); err != nil {
				t.Fatal(lines.Text())
			}
		}
		if exit, ok := errors.AsType[*exec.ExitError](cmd.Wait()); !ok || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
			t.Fatalf("it ended by %v", exit)
		}
		running, err := open(t, dir).Running()
		if err != nil {
			t.Fatal(err)
		}
		names := slices.Sorted(maps.Keys(running))
		for i := max(0, last-2); i <= last; i++ {
			if !slices.Contains(names, strconv.Itoa(i)) {
				t.Errorf("killed after %d: %d was started and is not in %q", last, i, names)
			}
		}
		if len(names) > min(last+1, 3)+2 {
			t.Errorf("killed after %d: %q are more than were under way", last, names)
		}
	}
}
