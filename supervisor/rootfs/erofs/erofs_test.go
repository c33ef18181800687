package erofs

import (
	"bytes"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	goerofs "github.com/erofs/go-erofs"
	"github.com/google/go-cmp/cmp"

	"warder/internal/oracle"
)

func holds(content string) func() (io.ReadCloser, error) {
	return func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(content)), nil }
}

func file(content string) *Node {
	return &Node{Mode: TypeRegular | 0o644, Size: int64(len(content)), Open: holds(content)}
}

func dir(children map[string]*Node) *Node {
	return &Node{Mode: TypeDir | 0o755, Children: children}
}

// everything has each kind of file, and each size that is laid out in another way.
func everything() *Node {
	twice := file("under two names")
	many := make(map[string]*Node)
	for i := range 700 { // several blocks
		many[fmt.Sprintf("a-rather-long-name-%03d-%s", i, strings.Repeat("x", i%100))] = file(fmt.Sprint(i))
	}
	many["!before-dot"], many["-"] = file("!"), file("-")
	sizes := make(map[string]*Node)
	for _, n := range []int{0, 1, inlineMost - 1, inlineMost, inlineMost + 1, BlockSize - 1, BlockSize, BlockSize + 1, 3*BlockSize + 7} {
		sizes[fmt.Sprint(n)] = file(strings.Repeat("s", n))
	}
	tagged := file("tagged")
	tagged.Xattrs = map[string]string{
		"user.note": "value", "security.capability": "\x01\x00\x00\x02\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00",
		"trusted.empty": "", "user.long": strings.Repeat("v", 5000),
	}
	owned := file("owned")
	owned.Mode, owned.UID, owned.GID, owned.Mtime = TypeRegular|0o4751, 70000, 80000, 1<<33
	return dir(map[string]*Node{
		"empty": dir(nil), "many": dir(many), "sizes": dir(sizes), "tagged": tagged, "owned": owned,
		"one": twice, "sub": dir(map[string]*Node{"other": twice, "deep": dir(map[string]*Node{"file": file("deep")})}),
		"link":      {Mode: TypeSymlink | 0o777, Target: "sub/deep/file"},
		"long-link": {Mode: TypeSymlink | 0o777, Target: strings.Repeat("l", MaxTarget)},
		"null":      {Mode: TypeChar | 0o666, Major: 1, Minor: 3},
		"disk":      {Mode: TypeBlock | 0o600, Major: 259, Minor: 1025},
		"pipe":      {Mode: TypeFIFO | 0o600}, "socket": {Mode: TypeSocket | 0o600},
	})
}

func image(t testing.TB, root *Node) []byte {
	t.Helper()
	var b bytes.Buffer
	n, err := Write(&b, root)
	if err != nil {
		t.Fatal(err)
	}
	if int64(b.Len()) != n || n%BlockSize != 0 {
		t.Fatalf("%d bytes, said to be %d", b.Len(), n)
	}
	return b.Bytes()
}

// found is what a reader finds of a file.
type found struct {
	Mode     fs.FileMode
	Content  string
	UID, GID uint32
	Links    int
	Mtime    int64
	Device   uint32
	Xattrs   map[string]string
}

// read reads an image by another's code.
func read(t *testing.T, b []byte) map[string]found {
	t.Helper()
	fsys, err := goerofs.Open(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	all := make(map[string]found)
	err = fs.WalkDir(fsys, ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := fs.Lstat(fsys, path)
		if err != nil {
			return err
		}
		st := info.Sys().(*goerofs.Stat)
		f := found{Mode: info.Mode() & (fs.ModeType | fs.ModePerm), UID: st.UID, GID: st.GID, Links: st.Nlink, Mtime: int64(st.Mtime), Device: uint32(st.Rdev)}
		if len(st.Xattrs) > 0 {
			f.Xattrs = st.Xattrs
		}
		switch {
		case info.Mode().IsRegular():
			content, err := fs.ReadFile(fsys, path)
			if err != nil {
				return err
			}
			f.Content = string(content)
		case info.Mode()&fs.ModeSymlink != 0:
			if f.Content, err = fs.ReadLink(fsys, path); err != nil {
				return err
			}
		}
		all[path] = f
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func TestWrite(t *testing.T) {
	root := everything()
	b := image(t, root)
	if !bytes.Equal(b, image(t, everything())) {
		t.Error("the same tree gave other bytes")
	}
	got := read(t, b)
	links := make(map[*Node]int)
	want := make(map[string]found)
	var walk func(string, *Node)
	walk = func(path string, n *Node) {
		links[n]++
		for name, c := range n.Children {
			walk(filepath.Join(path, name), c)
		}
	}
	walk(".", root)
	walk = func(path string, n *Node) {
		f := found{UID: n.UID, GID: n.GID, Mtime: int64(n.Mtime), Links: links[n], Xattrs: n.Xattrs}
		f.Mode = fs.FileMode(n.Mode & 0o777)
		switch n.Mode & TypeMask {
		case TypeRegular:
			r, err := n.Open()
			if err != nil {
				t.Fatal(err)
			}
			content, err := io.ReadAll(r)
			if err != nil {
				t.Fatal(err)
			}
			f.Content = string(content)
		case TypeSymlink:
			f.Mode, f.Content = f.Mode|fs.ModeSymlink, n.Target
		case TypeDir:
			f.Mode, f.Links = f.Mode|fs.ModeDir, 2
			for _, c := range n.Children {
				if c.IsDir() {
					f.Links++
				}
			}
		case TypeChar:
			f.Mode, f.Device = f.Mode|fs.ModeDevice|fs.ModeCharDevice, n.Major<<8|n.Minor
		case TypeBlock:
			f.Mode, f.Device = f.Mode|fs.ModeDevice, n.Minor&0xff|n.Major<<8|n.Minor&^0xff<<12
		case TypeFIFO:
			f.Mode |= fs.ModeNamedPipe
		case TypeSocket:
			f.Mode |= fs.ModeSocket
		}
		want[path] = f
		for name, c := range n.Children {
			walk(filepath.Join(path, name), c)
		}
	}
	walk(".", root)
	if diff := cmp.Diff(slices.Sorted(maps.Keys(want)), slices.Sorted(maps.Keys(got))); diff != "" {
		t.Fatalf("(-want +got):\n%s", diff)
	}
	for path, w := range want {
		if diff := cmp.Diff(w, got[path]); diff != "" {
			t.Errorf("%s (-want +got):\n%s", path, diff)
		}
	}
}

// TestFsck has the tools of the format's authors look at an image.
func TestFsck(t *testing.T) {
	path := filepath.Join(t.TempDir(), "image")
	if err := os.WriteFile(path, image(t, everything()), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command(oracle.Command(t, "fsck.erofs", "erofs-utils"), "--extract", path).CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

func TestRefusals(t *testing.T) {
	loop := dir(nil)
	for want, root := range map[string]*Node{
		"the root is no directory":                           file(""),
		"a/b: mode 0644 is of no type":                       dir(map[string]*Node{"a": dir(map[string]*Node{"b": {Mode: 0o644}})}),
		`a: a file cannot have the name ".."`:                dir(map[string]*Node{"a": dir(map[string]*Node{"..": file("")})}),
		"b: it is a directory with several names":            dir(map[string]*Node{"a": loop, "b": loop}),
		"a: a file of 5 bytes without them":                  dir(map[string]*Node{"a": {Mode: TypeRegular, Size: 5}}),
		"a: a symbolic link to 0 bytes":                      dir(map[string]*Node{"a": {Mode: TypeSymlink}}),
		`a: attribute "com.apple" of 1 bytes cannot be kept`: dir(map[string]*Node{"a": {Mode: TypeRegular, Xattrs: map[string]string{"com.apple": "x"}}}),
		"a: its attributes are more than 65536 bytes":        dir(map[string]*Node{"a": {Mode: TypeRegular, Xattrs: map[string]string{"user.a": strings.Repeat("x", 40000), "user.b": strings.Repeat("x", 40000)}}}),
		"a file that had 5000 bytes has 3 now":               dir(map[string]*Node{"a": {Mode: TypeRegular, Size: 5000, Open: holds("abc")}}),
		"a file that had 10 bytes has 3 now":                 dir(map[string]*Node{"a": {Mode: TypeRegular, Size: 10, Open: holds("abc")}}),
	} {
		var b bytes.Buffer
		if _, err := Write(&b, root); err == nil || err.Error() != want {
			t.Errorf("error %v, want %s", err, want)
		}
	}
}
