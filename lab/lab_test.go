package lab

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"warder/lab/wire"
)

func TestRunPassesEverythingOn(t *testing.T) {
	cfg := fake(t, "boots")
	var out, diag bytes.Buffer
	exit, err := Run(t.Context(), cfg, Command{Args: []string{"x"}, Stdin: strings.NewReader("hello"), Stdout: &out, Stderr: &diag})
	if err != nil {
		t.Fatal(err)
	}
	if want := (Exit{Status: 7, Time: 2 * time.Second}); exit != want {
		t.Errorf("exit %+v, want %+v", exit, want)
	}
	if out.String() != "hello" || diag.String() != "done" {
		t.Errorf("stdout %q, stderr %q, want hello, done", &out, &diag)
	}
}

func TestAMachineRunsManyCommands(t *testing.T) {
	m, err := Start(t.Context(), fake(t, "boots"))
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	for _, in := range []string{"first", "second", ""} {
		var out bytes.Buffer
		if _, err := m.Run(t.Context(), Command{Args: []string{"x"}, Stdin: strings.NewReader(in), Stdout: &out}); err != nil {
			t.Fatal(err)
		}
		if out.String() != in {
			t.Errorf("stdout %q, want %q", &out, in)
		}
	}
}

// What was meant for a command that has ended must not reach the next one: the
// end of its input least of all, or the next waits for input for ever.
func TestNothingReachesTheNextCommand(t *testing.T) {
	m, err := Start(t.Context(), fake(t, "boots"))
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	for range 300 {
		if exit, err := m.Run(t.Context(), Command{Args: []string{"absent"}}); err == nil || exit.Status != 127 {
			t.Fatalf("got %v, %v, want status 127", exit, err)
		}
		var out bytes.Buffer
		if _, err := m.Run(t.Context(), Command{Args: []string{"x"}, Stdin: strings.NewReader("input"), Stdout: &out}); err != nil {
			t.Fatal(err)
		}
		if out.String() != "input" {
			t.Fatalf("stdout %q, want %q", &out, "input")
		}
	}
}

// A machine that fails must be seen to, told why, and gone: never a hang.
func TestMachineFailures(t *testing.T) {
	for name, c := range map[string]struct {
		how           string
		boot, silence time.Duration
		want          []string
	}{
		"emulator ends":         {how: "ends", want: []string{"exit status 3", "could not load kernel"}},
		"panic at boot":         {how: "panics", want: []string{"panicked", "Fatal exception", "Oops"}},
		"hangs at boot":         {how: "hangs", boot: 300 * time.Millisecond, want: []string{"not up after 300ms"}},
		"garbage on the port":   {how: "garbage", want: []string{"4294967295 bytes"}},
		"no KVM":                {how: "nokvm", want: []string{"no /dev/kvm"}},
		"ends with a command":   {how: "boots dies", want: []string{"exit status 1"}},
		"panic with a command":  {how: "boots panics", want: []string{"panicked"}},
		"silent with a command": {how: "boots silent", silence: 300 * time.Millisecond, want: []string{"silent for 300ms"}},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := fake(t, c.how)
			if c.boot != 0 {
				cfg.BootTimeout = c.boot
			}
			if c.silence != 0 {
				cfg.Silence = c.silence
			}
			_, err := runOnce(t.Context(), cfg, Command{Args: []string{"x"}})
			if _, ok := errors.AsType[*MachineError](err); !ok {
				t.Fatalf("got %v, want a MachineError", err)
			}
			for _, w := range c.want {
				if !strings.Contains(err.Error(), w) {
					t.Errorf("the error does not say %q:\n%v", w, err)
				}
			}
		})
	}
}

func TestSlowIsNotSilent(t *testing.T) {
	cfg := fake(t, "boots slow")
	cfg.Silence = 200 * time.Millisecond
	exit, err := runOnce(t.Context(), cfg, Command{Args: []string{"x"}})
	if err != nil || exit.Status != 4 {
		t.Errorf("got %v, %v, want status 4", exit, err)
	}
}

func TestAFailedMachineIsRetriedOnce(t *testing.T) {
	cfg := fake(t, "second")
	t.Setenv("LAB_TEST_MARK", filepath.Join(t.TempDir(), "mark"))
	exit, err := Run(t.Context(), cfg, Command{Args: []string{"x"}})
	if err != nil || exit.Status != 7 {
		t.Errorf("got %v, %v, want status 7 of the second machine", exit, err)
	}

	var out bytes.Buffer
	_, err = Run(t.Context(), fake(t, "boots dies"), Command{Args: []string{"x"}, Stdout: &out})
	if _, ok := errors.AsType[*MachineError](err); !ok || out.String() != "begun\nbegun\n" {
		t.Errorf("got %v with output %q, want a MachineError after two runs", err, &out)
	}
}

func TestTheEndOfTheContextKillsTheCommandOnly(t *testing.T) {
	m, err := Start(t.Context(), fake(t, "boots killed"))
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	why := errors.New("long enough")
	for range 2 { // the machine stays usable
		ctx, cancel := context.WithTimeoutCause(t.Context(), 50*time.Millisecond, why)
		exit, err := m.Run(ctx, Command{Args: []string{"x"}})
		cancel()
		if !errors.Is(err, why) || exit.Status != 137 {
			t.Errorf("got %v, %v, want status 137 and %v", exit, err, why)
		}
	}
}

func TestTheEndOfTheContextEndsTheMachine(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	m, err := Start(ctx, fake(t, "boots"))
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	select {
	case <-m.ended:
	case <-time.After(10 * time.Second):
		t.Fatal("the emulator outlived its context")
	}
	if _, err := m.Run(t.Context(), Command{Args: []string{"x"}}); err == nil {
		t.Error("a command ran on a machine that is gone")
	}
	m.Close()
}

func TestSignalsReachTheCommand(t *testing.T) {
	signals := make(chan int, 1)
	signals <- 15
	exit, err := runOnce(t.Context(), fake(t, "boots killed"), Command{Args: []string{"x"}, Signals: signals})
	if err != nil || exit.Status != 143 {
		t.Errorf("got %v, %v, want status 143", exit, err)
	}
}

func TestACommandThatCannotStart(t *testing.T) {
	exit, err := Run(t.Context(), fake(t, "boots lost"), Command{Args: []string{"x"}})
	if err == nil || !strings.Contains(err.Error(), "no such command") || exit.Status != 127 {
		t.Errorf("got %v, %v, want status 127 and why", exit, err)
	}
}

func TestInputStaysWithinTheWindow(t *testing.T) {
	var out bytes.Buffer
	_, err := runOnce(t.Context(), fake(t, "boots hoards"), Command{
		Args: []string{"x"}, Stdin: bytes.NewReader(make([]byte, 3*wire.StdinWindow)), Stdout: &out,
	})
	if want := "786432"; err != nil || out.String() != want {
		t.Errorf("the command read %s bytes, %v, want %s", &out, err, want)
	}
}

// resultsTar is what a machine that is out of its mind might send.
var resultsTar = func() []byte {
	var b bytes.Buffer
	t := tar.NewWriter(&b)
	for _, f := range []struct {
		name, body string
		kind       byte
	}{
		{"dir/", "", tar.TypeDir},
		{"dir/file", "hello", tar.TypeReg},
		{"lonely/file", "hi", tar.TypeReg},
		{"link", "", tar.TypeSymlink},
	} {
		h := &tar.Header{Name: f.name, Typeflag: f.kind, Size: int64(len(f.body)), Mode: 0o644}
		if f.kind == tar.TypeSymlink {
			h.Linkname = "/etc/passwd"
		}
		if t.WriteHeader(h) != nil {
			panic("tar header")
		}
		if _, err := t.Write([]byte(f.body)); err != nil {
			panic(err)
		}
	}
	if t.Close() != nil {
		panic("tar")
	}
	return b.Bytes()
}()

func TestResultsComeBack(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "new")
	if _, err := runOnce(t.Context(), fake(t, "boots results"), Command{Args: []string{"x"}, Results: "/results", ResultsTo: dir}); err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for _, name := range []string{"dir/file", "lonely/file", "link"} {
		b, err := os.ReadFile(filepath.Join(dir, name))
		if err == nil {
			got[name] = string(b)
		}
	}
	if diff := cmp.Diff(map[string]string{"dir/file": "hello", "lonely/file": "hi"}, got); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
}

func TestResultsStayInTheirDirectory(t *testing.T) {
	dir := t.TempDir()
	inner := filepath.Join(dir, "inner")
	if err := os.Mkdir(inner, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(dir, filepath.Join(inner, "out")); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"../escaped", "/escaped", "out/escaped", "a/../../escaped"} {
		var b bytes.Buffer
		w := tar.NewWriter(&b)
		if err := w.WriteHeader(&tar.Header{Name: name, Typeflag: tar.TypeReg, Size: 1}); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte("x")); err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		root, err := os.OpenRoot(inner)
		if err != nil {
			t.Fatal(err)
		}
		if err := unpack(root, &b); err == nil {
			t.Errorf("%s: unpacked without complaint", name)
		}
		root.Close()
		if _, err := os.Lstat(filepath.Join(dir, "escaped")); err == nil {
			t.Fatalf("%s: written outside the directory", name)
		}
	}
}

func TestConfigsThatCannotBe(t *testing.T) {
	for name, c := range map[string]struct {
		cfg  Config
		want string
	}{
		"architecture": {Config{Arch: "riscv64"}, "have amd64, arm64"},
		"CPUs":         {Config{Arch: "amd64", CPUs: 99}, "1 to 8"},
		"memory":       {Config{Arch: "amd64", Memory: 1 << 20}, "at least"},
		"guest path":   {Config{Arch: "amd64", QEMU: QEMU{Path: "q"}, Kernel: "k", Init: "i", Files: []File{{"/etc/hostname", "relative"}}}, "not absolute"},
		"missing file": {Config{Arch: "amd64", QEMU: QEMU{Path: "q"}, Kernel: "k", Init: "i", Files: []File{{"/nonexistent", "/x"}}}, "/nonexistent"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Run(t.Context(), c.cfg, Command{Args: []string{"x"}})
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want an error with %q", err, c.want)
			}
		})
	}
}

func TestSerialTail(t *testing.T) {
	var s tail
	for range 1000 {
		if _, err := s.Write([]byte("a line of the console that is rather long\r\n")); err != nil {
			t.Fatal(err)
		}
	}
	if len(s.buf) > tailSize {
		t.Errorf("%d bytes kept, at most %d wanted", len(s.buf), tailSize)
	}
	if _, err := s.Write([]byte(panicLine + "\r\nlast\r\n")); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{panicLine, "last"}, s.lines(2)); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
	if l, ok := s.panicLine(); !ok || l != panicLine {
		t.Errorf("panic line %q, %v", l, ok)
	}
}
