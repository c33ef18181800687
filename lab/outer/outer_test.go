package outer

import (
	"archive/tar"
	"bytes"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestIsInit(t *testing.T) {
	if IsInit() {
		t.Error("a test takes itself for PID 1 of an outer machine")
	}
}

func TestInputKeepsOrderAndEnds(t *testing.T) {
	in := newInput()
	got := make(chan string)
	go func() {
		var b strings.Builder
		for p := in.next(); p != nil; p = in.next() {
			b.Write(p)
		}
		got <- b.String()
	}()
	in.put([]byte("one "))
	in.put([]byte("two "))
	in.put([]byte("three"))
	in.end()
	if s := <-got; s != "one two three" {
		t.Errorf("got %q", s)
	}
	in.put([]byte("late"))
	if p := in.next(); p != nil {
		t.Errorf("after the end: %q", p)
	}
}

func TestLookPath(t *testing.T) {
	first, second := t.TempDir(), t.TempDir()
	for _, f := range []struct {
		path string
		mode os.FileMode
	}{
		{first + "/plain", 0o644}, {second + "/plain", 0o755}, {second + "/tool", 0o755},
	} {
		if err := os.WriteFile(f.path, nil, f.mode); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(first+"/tool", 0o755); err != nil {
		t.Fatal(err)
	}
	env := []string{"PATH=/nonexistent", "X=1", "PATH=" + first + ":" + second}
	for name, want := range map[string]string{
		"tool":      second + "/tool", // the first one is a directory
		"plain":     second + "/plain",
		"./tool":    "./tool", // taken as it is
		"/bin/tool": "/bin/tool",
		"absent":    "",
	} {
		got, err := lookPath(name, env)
		if got != want || (err != nil) != (want == "") {
			t.Errorf("lookPath(%q) = %q, %v, want %q", name, got, err, want)
		}
	}
}

func TestSendResults(t *testing.T) {
	dir := t.TempDir()
	if err := os.MkdirAll(dir+"/sub/empty", 0o755); err != nil {
		t.Fatal(err)
	}
	big := bytes.Repeat([]byte("x"), 1<<20)
	for name, b := range map[string][]byte{"one": []byte("1"), "sub/big": big} {
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("one", dir+"/link"); err != nil { // not brought back
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := sendResults(&b, dir); err != nil {
		t.Fatal(err)
	}
	got := map[string]int{}
	for r := tar.NewReader(&b); ; {
		h, err := r.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		got[h.Name] = len(body)
	}
	if diff := cmp.Diff(map[string]int{"one": 1, "sub/": 0, "sub/empty/": 0, "sub/big": len(big)}, got); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
	b.Reset()
	if err := sendResults(&b, dir+"/absent"); err != nil || b.Len() != 0 {
		t.Errorf("an absent directory gave %d bytes, %v", b.Len(), err)
	}
}
