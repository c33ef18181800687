package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"warder/boot/kernelpkg"
	"warder/internal/testkernel"
)

// kernelOutput runs "warder kernel" and returns what it printed.
func kernelOutput(t *testing.T, args ...string) (string, error) {
	t.Helper()
	cmd := root()
	var out bytes.Buffer
	cmd.SetOut(&out)
	cmd.SetArgs(append([]string{"kernel"}, args...))
	err := cmd.ExecuteContext(t.Context())
	return out.String(), err
}

func TestKernelCommands(t *testing.T) {
	t.Setenv("WARDER_CACHE", t.TempDir())
	t.Setenv(kernelpkg.Variable, "") // whichever kernel other tests are run with
	if _, err := kernelOutput(t, "path", "--arch", "arm64"); err == nil || !strings.Contains(err.Error(), "warder kernel pull --arch arm64") {
		t.Errorf("path without a kernel: %v", err)
	}
	if out, err := kernelOutput(t, "list", "-o", "json"); err != nil || strings.TrimSpace(out) != "[]" {
		t.Errorf("list without a kernel: %q, %v", out, err)
	}
	deb := filepath.Join(t.TempDir(), "kernel.deb")
	if err := os.WriteFile(deb, testkernel.KernelDeb("arm64", "6.0-test"), 0o644); err != nil {
		t.Fatal(err)
	}
	pulled, err := kernelOutput(t, "pull", "--deb", deb)
	if err != nil {
		t.Fatal(err)
	}
	// It is here now, and no package source is asked.
	again, err := kernelOutput(t, "pull", "--arch", "arm64")
	if err != nil || again != pulled {
		t.Errorf("pulled again: %q, %v; want %q", again, err, pulled)
	}
	if path, err := kernelOutput(t, "path", "--arch", "arm64"); err != nil || path != pulled {
		t.Errorf("path: %q, %v; want %q", path, err, pulled)
	}
	vmlinuz, err := kernelOutput(t, "path", "--arch", "arm64", "--vmlinuz")
	if err != nil || filepath.Base(strings.TrimSpace(vmlinuz)) != "vmlinuz" {
		t.Errorf("path --vmlinuz: %q, %v", vmlinuz, err)
	}
	text, err := kernelOutput(t, "list")
	if err != nil || !strings.Contains(text, "6.0-test") {
		t.Errorf("list: %q, %v", text, err)
	}
	out, err := kernelOutput(t, "list", "-o", "json")
	if err != nil {
		t.Fatal(err)
	}
	var list []kernelpkg.Package
	if err := json.Unmarshal([]byte(out), &list); err != nil || len(list) != 1 || list[0].KernelPath != strings.TrimSpace(pulled) {
		t.Errorf("list as JSON: %v, %q", err, out)
	}
}

func TestKernelRefuses(t *testing.T) {
	t.Setenv("WARDER_CACHE", t.TempDir())
	for _, args := range [][]string{
		{"pull", "--arch", "riscv64"}, {"pull", "--deb", "/nonexistent"}, {"pull", "-o", "yaml"}, {"list", "-o", "yaml"},
		{"pull", "--arch", "amd64", "--deb", "x"}, {"pull", "extra"}, {"path", "--arch", "x"},
	} {
		if out, err := kernelOutput(t, args...); err == nil {
			t.Errorf("%q: no error, %q", args, out)
		}
	}
}

func TestProgress(t *testing.T) {
	var lines, bar bytes.Buffer
	file, terminal := &progress{w: &lines}, &progress{w: &bar, width: 60}
	for _, p := range []*progress{file, terminal} {
		p.report("lists", 0, 100, "%")
		p.report("lists", 100, 100, "%")
		p.report("a package with a name that is long, too long for this terminal", 5, 10, "KiB")
		p.report("unpack", 0, 0, "")
		p.end()
	}
	if want := "lists ...\na package with a name that is long, too long for this terminal ...\nunpack ...\n"; lines.String() != want {
		t.Errorf("not on a terminal: %q", &lines)
	}
	for _, want := range []string{"\rlists [########################################] 100/100 %", "##...] 5/10 KiB", "\runpack"} {
		if !strings.Contains(bar.String(), want) {
			t.Errorf("on a terminal: %q, want %q in it", &bar, want)
		}
	}
	for line := range strings.FieldsFuncSeq(bar.String(), func(c rune) bool { return c == '\r' || c == '\n' }) {
		if len(line) >= 60 {
			t.Errorf("a line of %d characters: %q", len(line), line)
		}
	}
}

func TestKernelName(t *testing.T) {
	t.Setenv("WARDER_CACHE", t.TempDir())
	t.Setenv(kernelpkg.Variable, "")
	if k, err := kernelName("a/kernel").absolute("/base"); err != nil || k != "/base/a/kernel" {
		t.Errorf("a relative path: %s, %v", k, err)
	}
	for _, word := range []kernelName{"", "tuned", "debian"} {
		if k, err := word.absolute("/base"); err != nil || k != word {
			t.Errorf("%q became %q, %v", word, k, err)
		}
		if path, ok := word.file(); ok {
			t.Errorf("%q is the file %s", word, path)
		}
		if path, err := word.path(); err == nil || !strings.Contains(err.Error(), "warder kernel ") {
			t.Errorf("%q without a kernel: %q, %v", word, path, err)
		}
	}
	if path, err := kernelName("/a/kernel").path(); err != nil || path != "/a/kernel" {
		t.Errorf("a file: %q, %v", path, err)
	}
}
