package iovec

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// pieces are n buffers of size bytes.
func pieces(n, size int) (bufs [][]byte) {
	for range n {
		bufs = append(bufs, make([]byte, size))
	}
	return bufs
}

func open(t testing.TB) *os.File {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "file"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

func TestFile(t *testing.T) {
	f := open(t)
	fd := int(f.Fd())
	if n, err := WriteAt(fd, [][]byte{[]byte("ab"), nil, []byte("cde")}, 3, 0); n != 5 || err != nil {
		t.Fatal(n, err)
	}
	got := [][]byte{make([]byte, 1), {}, make([]byte, 2), make([]byte, 9)}
	n, err := ReadAt(fd, got, 4)
	if all := string(bytes.Join(got, nil)[:max(n, 0)]); n != 4 || err != nil || all != "bcde" {
		t.Errorf("read %q, %v", all, err)
	}
	if n, err := ReadAt(fd, got, 8); n != 0 || err != nil {
		t.Errorf("at the end: %d, %v", n, err)
	}
	// Beyond what 32 bits hold.
	const far = 5 << 30
	if n, err := WriteAt(fd, [][]byte{[]byte("far")}, far, 0); n != 3 || err != nil {
		t.Fatal(n, err)
	}
	if n, err := ReadAt(fd, got[:1], far+2); n != 1 || err != nil || got[0][0] != 'r' {
		t.Errorf("far away: %d, %v, %q", n, err, got[0])
	}
}

// TestAppend has a flag of pwritev2 go through, and more buffers than one call takes, empty
// ones not counted.
func TestAppend(t *testing.T) {
	f := open(t)
	bufs := append(pieces(atOnce, 0), pieces(atOnce+1, 1)...)
	for range 2 {
		if n, err := WriteAt(int(f.Fd()), bufs, 0, unix.RWF_APPEND); n != atOnce || err != nil {
			t.Fatal(n, err)
		}
	}
	if st, err := f.Stat(); err != nil || st.Size() != 2*atOnce {
		t.Errorf("%v, %v", st, err)
	}
}

func TestErrors(t *testing.T) {
	f := open(t)
	fd := int(f.Fd())
	for name, call := range map[string]func() (int, error){
		"no file":       func() (int, error) { return ReadAt(-1, pieces(1, 1), 0) },
		"before it":     func() (int, error) { return ReadAt(fd, pieces(1, 1), -1) },
		"too many":      func() (int, error) { return ReadAt(fd, pieces(1025, 1), 0) },
		"odd flags":     func() (int, error) { return WriteAt(fd, pieces(1, 1), 0, 1<<30) },
		"write no file": func() (int, error) { v := new(Vector); v.Add([]byte("x")); return v.Write(-1) },
	} {
		if n, err := call(); n != 0 || err == nil {
			t.Errorf("%s: %d, %v", name, n, err)
		}
	}
}

func TestWrite(t *testing.T) {
	f := open(t)
	var v Vector
	for _, s := range []string{"a", "", "bc"} {
		v.Add([]byte(s))
	}
	if n, err := v.Write(int(f.Fd())); n != 3 || err != nil {
		t.Fatal(n, err)
	}
	v.Reset()
	v.Add([]byte("d"))
	if n, err := v.Write(int(f.Fd())); n != 1 || err != nil {
		t.Fatal(n, err)
	}
	if got, err := os.ReadFile(f.Name()); string(got) != "abcd" || err != nil {
		t.Errorf("wrote %q, %v", got, err)
	}
}

// TestReset holds an empty vector against what it has held.
func TestReset(t *testing.T) {
	var v Vector
	v.Add([]byte("x"))
	v.Reset()
	if p := v.pieces[:1][0]; p != (unix.Iovec{}) {
		t.Errorf("an empty vector holds %v", p)
	}
}
