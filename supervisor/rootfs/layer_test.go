package rootfs

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"path"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"warder/supervisor/rootfs/erofs"
)

// memory is a spool in memory.
type memory struct{ b []byte }

func (m *memory) WriteAt(p []byte, at int64) (int, error) {
	if n := int(at) + len(p); n > len(m.b) {
		m.b = append(m.b, make([]byte, n-len(m.b))...)
	}
	return copy(m.b[at:], p), nil
}

func (m *memory) ReadAt(p []byte, at int64) (int, error) { return bytes.NewReader(m.b).ReadAt(p, at) }

func newBuilder(most int64) *builder { return &builder{tree: newTree(), spool: &memory{}, most: most} }

// archive makes a layer of lines: "dir a", "file a content", "link a b", "symlink a b".
func archive(t testing.TB, lines ...string) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, l := range lines {
		f := append(strings.SplitN(l, " ", 3), "")
		h := &tar.Header{Name: f[1], Mode: 0o644}
		switch f[0] {
		case "dir":
			h.Typeflag, h.Mode = tar.TypeDir, 0o755
		case "file":
			h.Size = int64(len(f[2]))
		case "link":
			h.Typeflag, h.Linkname = tar.TypeLink, f[2]
		case "symlink":
			h.Typeflag, h.Linkname = tar.TypeSymlink, f[2]
		}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if h.Size > 0 {
			io.WriteString(w, f[2])
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// listing is a tree as lines of path and content.
func listing(t testing.TB, root *erofs.Node) map[string]string {
	t.Helper()
	all := make(map[string]string)
	var walk func(string, *erofs.Node)
	walk = func(at string, n *erofs.Node) {
		switch n.Mode & erofs.TypeMask {
		case erofs.TypeDir:
			if len(n.Children) == 0 {
				all[at] = "/"
			}
			for name, c := range n.Children {
				walk(path.Join(at, name), c)
			}
		case erofs.TypeSymlink:
			all[at] = "-> " + n.Target
		default:
			if n.Size > 0 {
				r, err := n.Open()
				if err != nil {
					t.Fatal(err)
				}
				b, err := io.ReadAll(r)
				if err != nil {
					t.Fatal(err)
				}
				all[at] = string(b)
			} else {
				all[at] = ""
			}
		}
	}
	walk("", root)
	return all
}

func TestLayers(t *testing.T) {
	for name, c := range map[string]struct {
		layers [][]string
		want   map[string]string
	}{
		"over one another": {
			[][]string{{"file a one", "file d/b two", "file d/c three"}, {"file a four", "dir d"}},
			map[string]string{"a": "four", "d/b": "two", "d/c": "three"},
		},
		"a file in place of a directory, and the other way round": {
			[][]string{{"file a/b x", "file c y"}, {"file a flat", "file c/d deep"}, {"dir c"}, {"file c/d deep"}},
			nil, // c is a file when something is put into it
		},
		"a directory in place of a file": {
			[][]string{{"file a x"}, {"dir a", "file a/b y"}},
			map[string]string{"a/b": "y"},
		},
		"taken away": {
			[][]string{{"file a x", "file d/b y", "file d/c z", "dir e"}, {"file .wh.a ", "file d/.wh.b ", "file .wh.none ", "file none/.wh.x "}},
			map[string]string{"d/c": "z", "e": "/"},
		},
		"taken away is what was below, whatever the order": {
			[][]string{{"file a old", "file d/old x"}, {"file a new", "file .wh.a ", "file d/new y", "file .wh.d "}},
			map[string]string{"a": "new", "d/new": "y"},
		},
		"taken away with something that goes with it": {
			[][]string{{"file d/a x", "file d/b y"}, {"file d/.wh.a ", "file .wh.d "}},
			map[string]string{"": "/"},
		},
		"opaque, before and after what is new": {
			[][]string{{"file d/old x", "file d/sub/old x", "file e/old x"}, {"file d/sub/new y", "file d/.wh..wh..opq ", "file e/.wh..wh..opq ", "file e/new y"}},
			map[string]string{"d/sub/new": "y", "e/new": "y"},
		},
		"notes of a file system are no files": {
			[][]string{{"file .wh..wh.aufs ", "file .wh..wh.plnk/x ", "file a x"}},
			map[string]string{"a": "x", ".wh..wh.plnk/x": ""},
		},
		"links": {
			[][]string{{"file a x", "link d/b a"}, {"link c /d/b", "file .wh.a "}},
			map[string]string{"d/b": "x", "c": "x"},
		},
		"through symbolic links, never out": {
			[][]string{{"dir usr/bin", "symlink bin usr/bin", "symlink up ../../..", "symlink root /"}, {"file bin/sh x", "file up/etc y", "file root/root/z w"}},
			map[string]string{"bin": "-> usr/bin", "usr/bin/sh": "x", "up": "-> ../../..", "root": "-> /", "etc": "y", "z": "w"},
		},
	} {
		b := newBuilder(1 << 20)
		var err error
		for _, l := range c.layers {
			if err = b.layer(t.Context(), bytes.NewReader(archive(t, l...))); err != nil {
				break
			}
		}
		if c.want == nil {
			if err == nil {
				t.Errorf("%s: no error", name)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if diff := cmp.Diff(c.want, listing(t, b.tree.root)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

func TestHostileLayers(t *testing.T) {
	long := strings.Repeat("d/", maxDepth+1)
	many := make([]string, 0, 100)
	for i := range 60 {
		many = append(many, fmt.Sprintf("symlink l%d l%d", i, i+1))
	}
	for _, c := range []struct {
		says  string
		lines []string
	}{
		{"lead out", []string{"file ../x y"}},
		{"lead out", []string{"file a/../../x y"}},
		{"lead out", []string{"file a x", "link b ../a"}},
		{"no such file", []string{"link b a"}},
		{"no such file", []string{"symlink l /nowhere", "link b l/x"}},
		{"a directory", []string{"dir a", "link b a"}},
		{"too many symbolic links", []string{"symlink a b", "symlink b a", "file a/x y"}},
		{"too many symbolic links", append(many, "file l0/x y")},
		{"no directory", []string{"file a x", "file a/b y"}},
		{"in one another", []string{"file " + long + "x y"}},
		{"a name of", []string{"file " + strings.Repeat("n", 256) + " x"}},
		{"a path of", []string{"file " + strings.Repeat("n/", 3000) + " x"}},
		{"cannot be named", []string{"file .wh... x"}},
		{"cannot be named", []string{"file .wh. x"}},
		{"a symbolic link to", []string{"symlink a " + strings.Repeat("x", 5000)}},
		{"too large", []string{"file a " + strings.Repeat("x", 2000)}},
		{"the root is no directory", []string{"file . x"}},
	} {
		b := newBuilder(1000)
		err := b.layer(t.Context(), bytes.NewReader(archive(t, c.lines...)))
		if err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%.60q: error %v, want %q", c.lines, err, c.says)
		}
	}
	// What the writer of archives would not write.
	for says, h := range map[string]tar.Header{
		"there is no such":   {Name: "a", Uid: -1},
		"device":             {Name: "a", Typeflag: tar.TypeChar, Devmajor: 5000},
		"not for images":     {Name: "a", Typeflag: 'V'},
		"zero byte":          {Name: "a\x00b"},
		"a symbolic link to": {Name: "a", Typeflag: tar.TypeSymlink},
	} {
		if err := newBuilder(1000).entry(&h, strings.NewReader("")); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%+v: error %v, want %q", h, err, says)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := newBuilder(1000).layer(ctx, bytes.NewReader(archive(t, "file a x"))); !errors.Is(err, context.Canceled) {
		t.Errorf("nobody waits any more: %v", err)
	}
}

func TestBoundsOfTree(t *testing.T) {
	tr := newTree()
	tr.files = maxFiles
	if err := tr.put(tr.root, "a", newDir()); err == nil || !strings.Contains(err.Error(), "files") {
		t.Errorf("one file too many: %v", err)
	}
	tr = newTree()
	tr.text = maxText
	if err := tr.put(tr.root, "a", newDir()); err == nil || !strings.Contains(err.Error(), "names") {
		t.Errorf("one name too many: %v", err)
	}
}

func TestAttributes(t *testing.T) {
	b := newBuilder(1000)
	n, err := b.node(&tar.Header{Name: "a", Typeflag: tar.TypeReg, PAXRecords: map[string]string{
		"SCHILY.xattr.user.a": "1", "SCHILY.xattr.security.capability": "2", "SCHILY.xattr.trusted.overlay.opaque": "y",
		"SCHILY.xattr.com.apple.provenance": "3", "path": "a",
	}})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(map[string]string{"user.a": "1", "security.capability": "2"}, n.Xattrs); diff != "" || b.skipped != 2 {
		t.Errorf("%d skipped (-want +got):\n%s", b.skipped, diff)
	}
}

// FuzzLayer lays two archives over one another. What comes of them can be written.
func FuzzLayer(f *testing.F) {
	f.Add(archive(f, "dir a", "file a/b x", "link c a/b", "symlink s a"), archive(f, "file a/.wh.b ", "file s/d y", "file .wh.s "))
	f.Add(archive(f, "file a/b x"), archive(f, "file a/.wh..wh..opq ", "file ../x y"))
	f.Fuzz(func(t *testing.T, below, above []byte) {
		const most = 1 << 16
		b := newBuilder(most)
		for _, l := range [][]byte{below, above} {
			if b.layer(t.Context(), &bounded{bytes.NewReader(l), 1 << 20}) != nil {
				break // what was laid before it is a tree all the same
			}
		}
		if len(b.spool.(*memory).b) > most {
			t.Errorf("%d bytes of files", len(b.spool.(*memory).b))
		}
		if _, err := erofs.Write(io.Discard, b.tree.root); err != nil {
			t.Errorf("the tree cannot be written: %v\n%q", err, slices.Sorted(maps.Keys(listing(t, b.tree.root))))
		}
	})
}
