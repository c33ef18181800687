package deb

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"warder/boot/expand"
	"warder/internal/oracle"
	"warder/internal/testkernel"
)

const control = `Package: test
Version: 1.0-1
Architecture: amd64
Depends: one (= 1), two | three
Description: a test
 of several
 lines
`

func parse(t *testing.T, file []byte) *Package {
	t.Helper()
	p, err := Parse(bytes.NewReader(file), int64(len(file)))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// contents reads all files under dir; links are "-> target".
func contents(t *testing.T, dir string) map[string]string {
	t.Helper()
	all := make(map[string]string)
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		name := strings.TrimPrefix(path, dir+"/")
		if d.Type()&os.ModeSymlink != 0 {
			target, err := os.Readlink(path)
			all[name] = "-> " + target
			return err
		}
		b, err := os.ReadFile(path)
		all[name] = string(b)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func TestUnpack(t *testing.T) {
	for _, m := range []expand.Method{"", expand.Gzip, expand.XZ, expand.Zstd} {
		file := testkernel.Deb(m, control,
			testkernel.File{Name: "."},
			testkernel.File{Name: "usr/bin/odd", Data: []byte("odd")},
			testkernel.File{Name: "usr/bin/link", Link: "odd"},
			testkernel.File{Name: "usr/bin/hard", Link: "./usr/bin/odd", Hard: true},
			testkernel.File{Name: "usr/share/doc/x", Data: []byte("doc")},
		)
		p := parse(t, file)
		want := map[string]string{
			"Package": "test", "Version": "1.0-1", "Architecture": "amd64",
			"Depends": "one (= 1), two | three", "Description": "a test\n of several\n lines",
		}
		if d := cmp.Diff(want, p.Control); d != "" {
			t.Errorf("%q: control:\n%s", m, d)
		}
		dir := t.TempDir()
		// Twice: what is there is replaced.
		for range 2 {
			if err := p.Unpack(dir, func(name string) bool { return !strings.HasPrefix(name, "usr/share") }); err != nil {
				t.Fatal(err)
			}
		}
		wantFiles := map[string]string{"usr/bin/odd": "odd", "usr/bin/link": "-> odd", "usr/bin/hard": "odd"}
		if d := cmp.Diff(wantFiles, contents(t, dir)); d != "" {
			t.Errorf("%q:\n%s", m, d)
		}
	}
}

// TestUnpackStaysInside has packages with names and links that lead out.
func TestUnpackStaysInside(t *testing.T) {
	for name, files := range map[string][]testkernel.File{
		"dots":          {{Name: "../out", Data: []byte("x")}},
		"deep dots":     {{Name: "a/../../out", Data: []byte("x")}},
		"root":          {{Name: "/out", Data: []byte("x")}},
		"link":          {{Name: "l", Link: ".."}, {Name: "l/out", Data: []byte("x")}},
		"absolute link": {{Name: "l", Link: "/tmp"}, {Name: "l/out", Data: []byte("x")}},
		"link to file":  {{Name: "l", Link: "../out"}, {Name: "l", Data: []byte("x")}},
		"hard link":     {{Name: "l", Link: "../secret", Hard: true}},
		"link in link":  {{Name: "l", Link: "m"}, {Name: "m", Link: ".."}, {Name: "l/out", Data: []byte("x")}},
	} {
		parent := t.TempDir()
		secret := filepath.Join(parent, "secret")
		if err := os.WriteFile(secret, []byte("secret"), 0o600); err != nil {
			t.Fatal(err)
		}
		dir := filepath.Join(parent, "in")
		p := parse(t, testkernel.Deb(expand.Gzip, control, files...))
		err := p.Unpack(dir, nil)
		left := contents(t, parent)
		for f, content := range left {
			if !strings.HasPrefix(f, "in/") && f != "secret" || f != "secret" && content == "secret" {
				t.Errorf("%s: wrote %s (%v)", name, f, err)
			}
		}
	}
}

func TestParseRefuses(t *testing.T) {
	good := testkernel.Deb(expand.Gzip, control)
	noData := good[:bytes.Index(good, []byte("data.tar"))]
	swapped := bytes.Clone(good)
	copy(swapped[8:], "something-else")
	version := bytes.Clone(good)
	version[68] = '3'
	for name, file := range map[string][]byte{
		"empty": nil, "text": []byte("hello, world of packages"), "magic only": []byte(arMagic), "no data": noData,
		"not debian-binary": swapped, "version 3": version, "control cut": good[:150],
	} {
		if _, err := Parse(bytes.NewReader(file), int64(len(file))); !errors.Is(err, ErrFormat) {
			t.Errorf("%s: error is %v, want %v", name, err, ErrFormat)
		}
	}
	damaged := bytes.Clone(good)
	copy(damaged[len(good)-20:], "xxxxxxxxxx")
	if err := parse(t, damaged).Unpack(t.TempDir(), nil); err == nil {
		t.Error("damaged data is unpacked")
	}
}

// TestDpkg has dpkg make a package and read one of ours.
func TestDpkg(t *testing.T) {
	dpkg := oracle.Command(t, "dpkg-deb", "dpkg")
	for _, method := range []string{"none", "gzip", "xz", "zstd"} {
		dir := t.TempDir()
		tree := filepath.Join(dir, "tree")
		for name, content := range map[string]string{"DEBIAN/control": "Maintainer: nobody <n@example.org>\n" + control, "usr/lib/file": strings.Repeat("content ", 5000)} {
			path := filepath.Join(tree, name)
			if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		made := filepath.Join(dir, "made.deb")
		if out, err := exec.CommandContext(t.Context(), dpkg, "-Z"+method, "-b", tree, made).CombinedOutput(); err != nil {
			t.Fatalf("dpkg-deb -Z%s: %v\n%s", method, err, out)
		}
		file, err := os.ReadFile(made)
		if err != nil {
			t.Fatal(err)
		}
		unpacked := filepath.Join(dir, "unpacked")
		if err := parse(t, file).Unpack(unpacked, nil); err != nil {
			t.Fatalf("%s: %v", method, err)
		}
		if d := cmp.Diff(map[string]string{"usr/lib/file": strings.Repeat("content ", 5000)}, contents(t, unpacked)); d != "" {
			t.Errorf("%s:\n%s", method, d)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, m := range []expand.Method{"", expand.Gzip, expand.Zstd} {
		f.Add(testkernel.Deb(m, control, testkernel.File{Name: "a/b", Data: []byte("x")}, testkernel.File{Name: "l", Link: "/"}))
	}
	f.Fuzz(func(t *testing.T, file []byte) {
		p, err := Parse(bytes.NewReader(file), int64(len(file)))
		if err != nil {
			return
		}
		parent := t.TempDir()
		dir := filepath.Join(parent, "in")
		_ = p.Unpack(dir, nil) // an error is as good as none
		entries, err := os.ReadDir(parent)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			if e.Name() != "in" {
				t.Errorf("wrote %s", e.Name())
			}
		}
	})
}
