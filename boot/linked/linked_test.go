package linked

import (
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
)

// TestFiles has a program run from what was found of it and nothing else.
func TestFiles(t *testing.T) {
	program, err := exec.LookPath("sh")
	if err != nil {
		t.Fatal(err)
	}
	files, err := Files(runtime.GOARCH, program)
	if err != nil {
		t.Fatal(err)
	}
	names := slices.Sorted(maps.Keys(files))
	linker := slices.IndexFunc(names, func(n string) bool { return strings.HasPrefix(filepath.Base(n), "ld-") })
	if linker < 0 || len(names) < 3 {
		t.Fatalf("found %q", names)
	}
	dir := t.TempDir()
	for name, data := range files {
		if err := os.WriteFile(filepath.Join(dir, filepath.Base(name)), data, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	out, err := exec.Command(filepath.Join(dir, filepath.Base(names[linker])), "--inhibit-cache", "--library-path", dir,
		filepath.Join(dir, filepath.Base(program)), "-c", "echo ran").CombinedOutput()
	if err != nil || string(out) != "ran\n" {
		t.Errorf("%v: %s", err, out)
	}
	if _, err := Files(runtime.GOARCH, "/nowhere"); err == nil {
		t.Error("what is not there was found")
	}
}
