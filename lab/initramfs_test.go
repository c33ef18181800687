package lab

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/u-root/u-root/pkg/cpio"
	"github.com/ulikunitz/xz"
)

// sampleConfig has one of everything an initramfs is made of.
func sampleConfig(t *testing.T) Config {
	t.Helper()
	dir := t.TempDir()
	write := func(name string, b []byte, mode os.FileMode) string {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, b, mode); err != nil {
			t.Fatal(err)
		}
		return path
	}
	var packed bytes.Buffer
	x, err := xz.NewWriter(&packed)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := x.Write([]byte("second module")); err != nil {
		t.Fatal(err)
	}
	if err := x.Close(); err != nil {
		t.Fatal(err)
	}
	write("tree/sub/data", []byte("data"), 0o600)
	if err := os.Symlink("sub/data", filepath.Join(dir, "tree/link")); err != nil {
		t.Fatal(err)
	}
	write("root/usr/bin/tool", []byte("tool"), 0o755)
	return Config{
		Init:    write("init", []byte("init"), 0o755),
		Modules: []string{write("b.ko", []byte("first module"), 0o644), write("a.ko.xz", packed.Bytes(), 0o644)},
		Files:   []File{{filepath.Join(dir, "tree"), "/opt/tree"}, {filepath.Join(dir, "init"), "/bin/copy"}},
		roots:   []string{filepath.Join(dir, "root")},
	}
}

func build(t *testing.T, cfg Config) []byte {
	t.Helper()
	f, err := buildInitramfs(cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.NewSectionReader(f, 0, 1<<30))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestInitramfsHoldsWhatWasNamed(t *testing.T) {
	b := build(t, sampleConfig(t))
	records, err := cpio.ReadAllRecords(cpio.Newc.Reader(bytes.NewReader(b)))
	if err != nil {
		t.Fatal(err)
	}
	type entry struct {
		Mode uint64
		Body string
	}
	got := map[string]entry{}
	seen := map[string]bool{".": true}
	for _, r := range records {
		if !seen[filepath.Dir(r.Name)] {
			t.Errorf("%s comes before its directory", r.Name)
		}
		seen[r.Name] = true
		var body []byte
		if r.FileSize > 0 {
			if body, err = io.ReadAll(io.NewSectionReader(r, 0, int64(r.FileSize))); err != nil {
				t.Fatal(err)
			}
		}
		got[r.Name] = entry{r.Mode, string(body)}
	}
	for name, want := range map[string]entry{
		"init":                         {0o100755, "init"},
		"usr/bin/copy":                 {0o100755, "init"},
		"opt/tree":                     {0o040755, ""},
		"opt/tree/sub/data":            {0o100600, "data"},
		"opt/tree/link":                {0o120777, "sub/data"},
		"usr/bin/tool":                 {0o100755, "tool"},
		"usr/lib/lab-modules/000-b.ko": {0o100644, "first module"},
		"usr/lib/lab-modules/001-a.ko": {0o100644, "second module"},
		"tmp":                          {0o041777, ""},
		"etc/hosts":                    {0o100644, "127.0.0.1 localhost lab\n::1 localhost\n"},
		"proc":                         {0o040755, ""},
		"dev":                          {0o040755, ""},
		"lib":                          {0o120777, "usr/lib"}, "usr/lib": {0o040755, ""},
		"usr":                 {0o040755, ""},
		"sys":                 {0o040755, ""},
		"root":                {0o040755, ""},
		"run":                 {0o040755, ""},
		"opt/tree/sub":        {0o040755, ""},
		"usr/lib/lab-modules": {0o040755, ""},
	} {
		if diff := cmp.Diff(want, got[name]); diff != "" {
			t.Errorf("%s: -want +got\n%s", name, diff)
		}
	}
}

func TestInitramfsIsReproducible(t *testing.T) {
	cfg := sampleConfig(t)
	if !bytes.Equal(build(t, cfg), build(t, cfg)) {
		t.Error("the same input gave other bytes")
	}
}
