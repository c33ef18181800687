package builder

import (
	"bytes"
	_ "embed"
	"go/parser"
	"go/token"
	"io"
	"log/slog"
	"os"
	"path"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/u-root/mkuimage/cpio"

	"warder/guestinit/initramfs"
	"warder/internal/testkvm"
)

func build(t *testing.T) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := Build(&b, runtime.GOARCH, slog.New(slog.DiscardHandler)); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// TestBuild builds the image anew and compares it with the one that was built
// for this program, from another temporary directory; without that one it
// builds twice.
func TestBuild(t *testing.T) {
	testkvm.OnHost(t, "the go tool and this module's sources")
	if testing.Short() {
		t.Skip("-short: it compiles the guest's user land")
	}
	first := build(t)
	second, err := initramfs.Base()
	if err != nil {
		second = build(t)
	}
	if !bytes.Equal(first, second) {
		t.Error("two builds gave different bytes; or the one in this program is old: run make build")
	}
	records, err := cpio.ReadAllRecords(cpio.Newc.Reader(bytes.NewReader(first)))
	if err != nil {
		t.Fatal(err)
	}
	modes := make(map[string]uint64)
	for _, r := range records {
		if r.MTime != 0 || r.UID != 0 || r.GID != 0 {
			t.Errorf("%s: time %d, owner %d:%d", r.Name, r.MTime, r.UID, r.GID)
		}
		if _, ok := modes[filepath.Dir(r.Name)]; !ok && filepath.Dir(r.Name) != "." {
			t.Errorf("%s comes before its directory", r.Name)
		}
		modes[r.Name] = r.Mode
	}
	for name, mode := range map[string]uint64{
		"init": 0o100755, "bin/bb": 0o100755, "bin/sh": 0o120777, "bin/ls": 0o120777, "bin/env": 0o120777,
		"etc/passwd": 0o100644, "tmp": 0o041777, "root": 0o040700, "sbin": 0o120777,
	} {
		if modes[name] != mode {
			t.Errorf("%s: mode %o, want %o", name, modes[name], mode)
		}
	}
	wd, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for _, trace := range []string{wd, os.TempDir() + "/warder-initramfs"} {
		if bytes.Contains(first, []byte(trace)) {
			t.Errorf("the image names %s of the build machine", trace)
		}
	}
	if most := 12 << 20; len(first) > most {
		t.Errorf("%d bytes: a guest unpacks them at every start, keep them below %d", len(first), most)
	}
}

func TestWrite(t *testing.T) {
	if err := write(io.Discard, arrange(nil)); err != nil {
		t.Error(err)
	}
}

//go:embed commands.go
var commands []byte

// TestCommandsAreKept compares the commands of the image with those that
// commands.go keeps in go.mod.
func TestCommandsAreKept(t *testing.T) {
	f, err := parser.ParseFile(token.NewFileSet(), "commands.go", commands, parser.ImportsOnly)
	if err != nil {
		t.Fatal(err)
	}
	var kept []string
	for _, i := range f.Imports {
		kept = append(kept, path.Base(strings.Trim(i.Path.Value, `"`)))
	}
	if diff := cmp.Diff(core, kept); diff != "" {
		t.Errorf("builder.go and commands.go differ: %s", diff)
	}
}
