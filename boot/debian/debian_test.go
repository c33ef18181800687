package debian

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"warder/boot/expand"
	"warder/internal/oracle"
	"warder/internal/testkernel"
)

// An archive is a Debian mirror in a directory.
type archive struct{ dir string }

// add puts a package into a suite.
func (a archive) add(t *testing.T, suite, arch, name, version, depends string) {
	t.Helper()
	control := fmt.Sprintf("Package: %s\nVersion: %s\nArchitecture: %s\nDepends: %s\nMaintainer: nobody <n@example.org>\nDescription: test\n",
		name, version, arch, depends)
	deb := testkernel.Deb(expand.Gzip, control, testkernel.File{Name: "usr/share/" + name, Data: []byte(version)})
	file := fmt.Sprintf("pool/%s_%s_%s.deb", name, version, arch)
	write(t, filepath.Join(a.dir, file), deb)
	index := filepath.Join(a.dir, "dists", suite, "main", "binary-"+arch, "Packages")
	old, err := os.ReadFile(index)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	entry := fmt.Sprintf("%sFilename: %s\nSize: %d\nSHA256: %x\n\n", control, file, len(deb), sha256.Sum256(deb))
	index2 := append(old, entry...)
	write(t, index, index2)
	release := fmt.Sprintf("Origin: test\nSuite: %s\nCodename: %s\nArchitectures: amd64 arm64\nComponents: main\nDate: Thu, 01 Jan 2026 00:00:00 UTC\nSHA256:\n", suite, suite)
	for _, arch := range []string{"amd64", "arm64"} {
		path := filepath.Join("main", "binary-"+arch, "Packages")
		content, _ := os.ReadFile(filepath.Join(a.dir, "dists", suite, path)) // empty if there is none
		release += fmt.Sprintf(" %x %d %s\n", sha256.Sum256(content), len(content), path)
		write(t, filepath.Join(a.dir, "dists", suite, path), content)
	}
	write(t, filepath.Join(a.dir, "dists", suite, "Release"), []byte(release))
}

func write(t *testing.T, path string, content []byte) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, content, 0o644); err != nil {
		t.Fatal(err)
	}
}

// machine makes this machine's apt one that has the archive's suite as its
// source, and amd64 as its architecture.
func machine(t *testing.T, suite string) archive {
	t.Helper()
	oracle.Command(t, "apt-get", "apt")
	a := archive{t.TempDir()}
	etc := t.TempDir()
	write(t, filepath.Join(etc, "list.d/test.list"), fmt.Appendf(nil, "deb [trusted=yes] copy:%s %s main\n", a.dir, suite))
	write(t, filepath.Join(etc, "list.d/ignored.disabled"), []byte("nonsense\n"))
	conf := filepath.Join(etc, "apt.conf")
	write(t, conf, fmt.Appendf(nil, `Dir::Etc::sourcelist "%s/none"; Dir::Etc::sourceparts "%[1]s/list.d";
Dir::Etc::main "/dev/null"; Dir::Etc::parts "/dev/null";
Acquire::AllowInsecureRepositories "true"; APT::Get::AllowUnauthenticated "true";
APT::Update::Post-Invoke { "touch %[1]s/hook-ran"; };
`, etc))
	t.Setenv("APT_CONFIG", conf)
	t.Cleanup(func() {
		if _, err := os.Stat(filepath.Join(etc, "hook-ran")); err == nil {
			t.Error("the machine's own hooks ran")
		}
	})
	return a
}

func TestFetch(t *testing.T) {
	a := machine(t, "bookworm")
	a.add(t, "bookworm", "amd64", "one", "1.0", "two (>= 1) | three, four:any")
	a.add(t, "bookworm", "arm64", "one", "1.0", "")
	a.add(t, "bookworm", "arm64", "two", "1%3a2.0", "")
	state, dir := t.TempDir(), t.TempDir()
	seen := make(map[string]bool)
	req := Request{Packages: []string{"two", "one"}, Arch: "arm64", StateDir: state, Dir: dir, Progress: func(p Progress) {
		seen[p.What] = true
		if p.Done < 0 || p.Done > p.Total {
			t.Errorf("progress %+v", p)
		}
	}}
	paths, err := Fetch(t.Context(), req)
	if err != nil {
		t.Fatal(err)
	}
	if len(paths) != 2 || !strings.HasPrefix(filepath.Base(paths[0]), "two_") || filepath.Base(paths[1]) != "one_1.0_arm64.deb" {
		t.Errorf("fetched %q", paths)
	}
	if left, _ := filepath.Glob(filepath.Join(dir, ".*")); len(left) > 0 {
		t.Errorf("left behind: %q", left)
	}
	if !seen["package lists"] {
		t.Errorf("progress of %v only", seen)
	}
	before, err := os.Stat(paths[1])
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Fetch(t.Context(), req); err != nil {
		t.Fatal(err)
	}
	if after, err := os.Stat(paths[1]); err != nil || !os.SameFile(before, after) {
		t.Errorf("fetched again: %v", err)
	}
	write(t, paths[1], []byte("damaged"))
	if _, err := Fetch(t.Context(), req); err != nil {
		t.Fatal(err)
	}
	out := t.TempDir()
	if err := Unpack(paths[1], out, nil); err != nil {
		t.Errorf("a damaged file was not fetched again: %v", err)
	}
	if got, err := os.ReadFile(filepath.Join(out, "usr/share/one")); string(got) != "1.0" {
		t.Errorf("unpacked %q, %v", got, err)
	}
}

func TestFetchUnknown(t *testing.T) {
	a := machine(t, "bookworm")
	a.add(t, "bookworm", "amd64", "one", "1.0", "")
	_, err := Fetch(t.Context(), Request{Packages: []string{"nothing"}, Arch: "amd64", StateDir: t.TempDir(), Dir: t.TempDir()})
	if !errors.Is(err, ErrNotFound) {
		t.Errorf("error is %v, want %v", err, ErrNotFound)
	}
}

func TestShow(t *testing.T) {
	a := machine(t, "bookworm")
	a.add(t, "bookworm", "amd64", "one", "1.0", "two (>= 1) | three, four:any")
	archive, err := Open(t.Context(), Config{Arch: "amd64", StateDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	control, err := archive.Show(t.Context(), "one")
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff([]string{"two", "four"}, Depends(control)); d != "" {
		t.Error(d)
	}
	if _, err := archive.Show(t.Context(), "nothing"); !errors.Is(err, ErrNotFound) {
		t.Errorf("error is %v, want %v", err, ErrNotFound)
	}
}

// TestSuite has one more suite than the machine, whose package is preferred.
func TestSuite(t *testing.T) {
	a := machine(t, "bookworm")
	a.add(t, "bookworm", "amd64", "one", "1.0", "")
	a.add(t, "bookworm", "amd64", "two", "1.0", "")
	a.add(t, "bookworm-backports", "amd64", "one", "2.0", "")
	state, dir := t.TempDir(), t.TempDir()
	for range 2 { // the second time, the suite is known from the first
		paths, err := Fetch(t.Context(), Request{
			Packages: []string{"one", "two"}, Arch: "amd64", Suite: "bookworm-backports", StateDir: state, Dir: dir,
		})
		if err != nil {
			t.Fatal(err)
		}
		var names []string
		for _, p := range paths {
			names = append(names, filepath.Base(p))
		}
		if d := cmp.Diff([]string{"one_2.0_amd64.deb", "two_1.0_amd64.deb"}, names); d != "" {
			t.Error(d)
		}
	}
}

// TestOpenTogether has several open the same state at once.
func TestOpenTogether(t *testing.T) {
	a := machine(t, "bookworm")
	a.add(t, "bookworm", "amd64", "one", "1.0", "")
	a.add(t, "bookworm-backports", "amd64", "one", "2.0", "")
	state := t.TempDir()
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			if _, err := Open(t.Context(), Config{Arch: "amd64", Suite: "bookworm-backports", StateDir: state}); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	unlock, err := Lock(t.Context(), filepath.Join(state, "amd64-bookworm-backports", "lock"))
	if err != nil {
		t.Fatal(err)
	}
	defer unlock()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Open(ctx, Config{Arch: "amd64", Suite: "bookworm-backports", StateDir: state}); !errors.Is(err, context.Canceled) {
		t.Errorf("opened while another has it: %v", err)
	}
}

func TestMirrorOf(t *testing.T) {
	const targets = `http://a/ubuntu noble main
http://b/debian bookworm-updates main
http://c/debian bookworm contrib
http://d/debian bookworm main
http://e/debian bookworm-security main
`
	for _, c := range []struct {
		suite, targets, uri string
		known, fails        bool
	}{
		{suite: "bookworm-backports", targets: targets, uri: "http://d/debian"},
		{suite: "bookworm-updates", targets: targets, known: true},
		{suite: "trixie-backports", targets: targets, fails: true},
		{suite: "trixie-backports", targets: "http://f/debian stable main\n", uri: "http://f/debian"},
		{suite: "trixie-backports", fails: true},
	} {
		uri, known, err := mirrorOf(c.suite, c.targets)
		if uri != c.uri || known != c.known || (err != nil) != c.fails {
			t.Errorf("%s: %q, %v, %v; want %+v", c.suite, uri, known, err, c)
		}
	}
}

func TestParseURI(t *testing.T) {
	got, err := parseURI("noise\n'http://m/p/x_1%3a2_amd64.deb' x_1%3a2_amd64.deb 1472 SHA256:abcd\n")
	if err != nil || got != (file{"x_1%3a2_amd64.deb", 1472, "abcd"}) {
		t.Errorf("%+v, %v", got, err)
	}
	for _, bad := range []string{"", "'http://m/x' ../x 1 SHA256:aa", "'http://m/x' x many SHA256:aa", "'http://m/x' x 1 MD5Sum:aa"} {
		if got, err := parseURI(bad); err == nil {
			t.Errorf("%q is read as %+v", bad, got)
		}
	}
}

func TestConfigRefused(t *testing.T) {
	oracle.Command(t, "apt-get", "apt")
	for _, cfg := range []Config{
		{Arch: "../x"}, {Arch: "amd64\"; x"}, {Arch: "amd64", Suite: "a b"}, {Arch: "amd64", Suite: "../x"},
	} {
		cfg.StateDir = t.TempDir()
		if _, err := Open(t.Context(), cfg); err == nil {
			t.Errorf("%+v: no error", cfg)
		}
	}
}

func TestExplain(t *testing.T) {
	cause := errors.New("exit status 100")
	if err := explain("apt-get", "W: careful\n", cause); !errors.Is(err, cause) {
		t.Error(err)
	}
	err := explain("apt-get", "W: careful\nE: Could not get lock\nE: gave up\n", cause)
	if err.Error() != "apt-get: Could not get lock; gave up" {
		t.Error(err)
	}
}
