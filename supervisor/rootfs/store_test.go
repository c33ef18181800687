package rootfs

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	goerofs "github.com/erofs/go-erofs"
	"github.com/google/go-cmp/cmp"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/klauspost/compress/zstd"
	"golang.org/x/sys/unix"

	"warder/internal/testimage"
	"warder/supervisor/declaration"
)

const arch = "arm64" // of the images, whatever the machine

func open(t testing.TB, limit int64) *Store {
	t.Helper()
	s, err := Open(Options{Dir: t.TempDir(), Limit: limit, Arch: arch})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func must[T any](t testing.TB) func(v T, err error) T {
	t.Helper()
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// compressed is a layer as a gzip or zstd archive, or none.
func compressed(t testing.TB, mt types.MediaType, archive []byte) v1.Layer {
	t.Helper()
	switch mt {
	case types.OCILayerZStd:
		z := must[*zstd.Encoder](t)(zstd.NewWriter(nil))
		b := z.EncodeAll(archive, nil)
		return zstdLayer{static.NewLayer(b, mt), archive}
	case types.OCIUncompressedLayer:
		return static.NewLayer(archive, mt)
	}
	return must[v1.Layer](t)(tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(archive)), nil }, tarball.WithMediaType(mt)))
}

// zstdLayer knows what it is without its compression.
type zstdLayer struct {
	v1.Layer
	plain []byte
}

func (l zstdLayer) DiffID() (v1.Hash, error) {
	sum := sha256.Sum256(l.plain)
	return v1.Hash{Algorithm: "sha256", Hex: hex.EncodeToString(sum[:])}, nil
}

// example is an image of three layers, each compressed in another way.
func example(t testing.TB, arch string) v1.Image {
	t.Helper()
	img, err := mutate.AppendLayers(mutate.MediaType(empty.Image, types.OCIManifestSchema1),
		compressed(t, types.OCILayer, archive(t, "file etc/motd below", "file bin/sh shell", "link bin/ash bin/sh")),
		compressed(t, types.OCILayerZStd, archive(t, "file etc/motd above "+arch, "file gone x")),
		compressed(t, types.OCIUncompressedLayer, archive(t, "file .wh.gone ")))
	if err != nil {
		t.Fatal(err)
	}
	c := must[*v1.ConfigFile](t)(img.ConfigFile())
	c = c.DeepCopy()
	c.OS, c.Architecture = "linux", arch
	c.Config = v1.Config{Entrypoint: []string{"/bin/sh"}, Cmd: []string{"-c", "true"}, Env: []string{"A=b"}, WorkingDir: "/srv", User: "nobody"}
	return must[v1.Image](t)(mutate.ConfigFile(img, c))
}

// several is an index of images of several architectures.
func several(t testing.TB) v1.ImageIndex {
	var adds []mutate.IndexAddendum
	for _, a := range []string{"amd64", "arm64"} {
		adds = append(adds, mutate.IndexAddendum{Add: example(t, a), Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: a}}})
	}
	return mutate.AppendManifests(empty.Index, adds...)
}

// holds fails unless a lease is of the example, and ends it.
func holds(t *testing.T, l *Lease) {
	t.Helper()
	defer l.Close()
	f := must[*os.File](t)(os.Open(l.Path))
	defer f.Close()
	fsys := must[fs.FS](t)(goerofs.Open(f))
	for path, want := range map[string]string{"etc/motd": "above " + arch, "bin/sh": "shell", "bin/ash": "shell"} {
		if b, err := fs.ReadFile(fsys, path); err != nil || string(b) != want {
			t.Errorf("%s holds %q (%v), want %q", path, b, err, want)
		}
	}
	if _, err := fs.Stat(fsys, "gone"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("what was taken away: %v", err)
	}
	want := Config{Args: []string{"/bin/sh", "-c", "true"}, Env: []string{"A=b"}, Dir: "/srv", User: "nobody"}
	if diff := cmp.Diff(want, l.Config); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// left fails unless a store has no more than so many images, and nothing else.
func left(t *testing.T, s *Store, images int) {
	t.Helper()
	entries := must[[]os.DirEntry](t)(os.ReadDir(s.dir))
	n := 0
	for _, e := range entries {
		if e.Name() == "locks" {
			continue
		}
		if n++; strings.HasSuffix(e.Name(), newSuffix) {
			t.Errorf("%s is left", e.Name())
		}
	}
	if n != images {
		t.Errorf("%d images, want %d", n, images)
	}
}

// TestForgedLayers has what is not what its digest says, and what does not end.
func TestForgedLayers(t *testing.T) {
	dir := t.TempDir()
	must[layout.Path](t)(layout.Write(dir, mutate.AppendManifests(empty.Index, mutate.IndexAddendum{Add: example(t, arch)})))
	i := declaration.Image{Kind: declaration.ImageLayout, Name: dir}
	img := example(t, arch)
	layers := must[[]v1.Layer](t)(img.Layers())
	last := must[v1.Hash](t)(layers[2].Digest())
	blob := filepath.Join(dir, "blobs", "sha256", last.Hex)
	good := must[[]byte](t)(os.ReadFile(blob))
	forge := func(says string, content []byte) {
		t.Helper()
		if err := os.WriteFile(blob, content, 0o600); err != nil {
			t.Fatal(err)
		}
		s := open(t, 1<<20)
		_, err := s.Get(t.Context(), i)
		if err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("error %v, want %q", err, says)
		}
		left(t, s, 0)
	}
	forge("not what the image's configuration says", archive(t, "file .wh.bin "))
	forge("unexpected EOF", good[:600])
	forge("lead out", archive(t, "file ../../etc/passwd x"))
	forge("too large", bomb(t, 256<<20))
	if err := os.WriteFile(blob, good, 0o600); err != nil {
		t.Fatal(err)
	}
	s := open(t, 1<<20)
	holds(t, must[*Lease](t)(s.Get(t.Context(), i)))
	config := must[v1.Hash](t)(img.ConfigName())
	if err := os.WriteFile(filepath.Join(dir, "blobs", "sha256", config.Hex), []byte("{}"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Get(t.Context(), i); err == nil || !strings.Contains(err.Error(), "what is there is not") {
		t.Errorf("a forged configuration: %v", err)
	}
	// Without a bound on it, what an image says of its size would be believed.
	if _, err := open(t, 4096).Get(t.Context(), declaration.Image{Kind: declaration.ImageDir, Name: dir}); !errors.Is(err, errTooLarge) {
		t.Errorf("a directory that is too large: %v", err)
	}
}

// bomb is a file of zeros that is short.
func bomb(t *testing.T, size int64) []byte {
	t.Helper()
	var b bytes.Buffer
	z := must[*zstd.Encoder](t)(zstd.NewWriter(&b))
	if _, err := io.CopyN(z, zeros{}, size); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

func TestForgedManifests(t *testing.T) {
	raw := must[[]byte](t)(example(t, arch).RawManifest())
	for says, change := range map[string]func(*v1.Manifest){
		"not for VMs":          func(m *v1.Manifest) { m.Layers[0].URLs = []string{"http://127.0.0.1/secret"} },
		"is of the type":       func(m *v1.Manifest) { m.Layers[0].MediaType = "application/vnd.oci.image.layer.v1.tar+encrypted" },
		"has -1 bytes":         func(m *v1.Manifest) { m.Layers[0].Size = -1 },
		"there can be 512":     func(m *v1.Manifest) { m.Layers = slices.Repeat(m.Layers[:1], maxLayers+1) },
		"there can be 4194304": func(m *v1.Manifest) { m.Config.Size = 1 << 40 },
	} {
		m := must[*v1.Manifest](t)(v1.ParseManifest(bytes.NewReader(raw)))
		change(m)
		b := must[[]byte](t)(json.Marshal(m))
		_, err := fromManifest(b, arch, func(v1.Descriptor) (io.ReadCloser, error) { return nil, errors.New("read") })
		if err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("error %v, want %q", err, says)
		}
	}
	for says, c := range map[string]v1.ConfigFile{
		"guests here are linux/arm64": {OS: "windows", Architecture: "arm64"},
		"it is for linux/amd64":       {OS: "linux", Architecture: "amd64"},
		"is of 2 layers":              {OS: "linux", Architecture: arch},
	} {
		n := 1
		if strings.Contains(says, "layers") {
			n = 2
		}
		c.RootFS.DiffIDs = make([]v1.Hash, n)
		for i := range c.RootFS.DiffIDs {
			c.RootFS.DiffIDs[i] = v1.Hash{Algorithm: "sha256", Hex: strings.Repeat("0", 64)}
		}
		err := (&content{layers: make([]source, 1)}).setConfig(must[[]byte](t)(json.Marshal(c)), arch)
		if err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("error %v, want %q", err, says)
		}
	}
	for says, c := range map[string]v1.Config{
		"a zero byte":      {Env: []string{"a\x00"}},
		"there can be 262": {Cmd: []string{strings.Repeat("x", maxDefaults+1)}},
	} {
		if _, err := (&content{config: v1.ConfigFile{Config: c}}).defaults(); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("error %v, want %q", err, says)
		}
	}
}

// TestRoom has images that do not all fit.
func TestRoom(t *testing.T) {
	s := open(t, 100<<10)
	make := func(content string) declaration.Image {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "file"), bytes.Repeat([]byte(content), 30<<10), 0o600); err != nil {
			t.Fatal(err)
		}
		return declaration.Image{Kind: declaration.ImageDir, Name: dir}
	}
	a, b, c := make("a"), make("b"), make("c")
	first := must[*Lease](t)(s.Get(t.Context(), a))
	second := must[*Lease](t)(s.Get(t.Context(), b))
	if _, err := s.Get(t.Context(), c); !errors.Is(err, errTooLarge) {
		t.Errorf("two are in use: %v", err)
	}
	left(t, s, 2)
	if _, err := s.Remove(first.Digest[:8]); err == nil || !strings.Contains(err.Error(), "in use") {
		t.Errorf("remove one that is in use: %v", err)
	}
	second.Close()
	third := must[*Lease](t)(s.Get(t.Context(), c))
	third.Close()
	left(t, s, 2) // the one in use, and the new one
	if _, err := os.Stat(first.Path); err != nil {
		t.Errorf("one that is in use: %v", err)
	}
	first.Close()
	if _, err := s.Remove(first.Digest[:8]); err != nil {
		t.Error(err)
	}
	if _, err := s.Remove("none"); err == nil {
		t.Error("removed none")
	}
	left(t, s, 1)
	// What a process has left that was killed.
	if err := os.Mkdir(filepath.Join(s.dir, strings.Repeat("0", 64)+newSuffix), 0o700); err != nil {
		t.Fatal(err)
	}
	must[*Lease](t)(s.Get(t.Context(), a)).Close()
	left(t, s, 2)
}

func TestDirectory(t *testing.T) {
	dir := t.TempDir()
	write := func(name, content string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o640); err != nil {
			t.Fatal(err)
		}
	}
	write("a", "one")
	if err := errors.Join(os.Mkdir(filepath.Join(dir, "d"), 0o750), os.Link(filepath.Join(dir, "a"), filepath.Join(dir, "d", "b")),
		os.Symlink("../../../etc/passwd", filepath.Join(dir, "s"))); err != nil {
		t.Fatal(err)
	}
	s := open(t, 1<<20)
	i := declaration.Image{Kind: declaration.ImageDir, Name: dir}
	first := must[*Lease](t)(s.Get(t.Context(), i))
	again := must[*Lease](t)(s.Get(t.Context(), i))
	if first.Digest != again.Digest || first.Made != again.Made {
		t.Error("it was made twice")
	}
	f := must[*os.File](t)(os.Open(first.Path))
	defer f.Close()
	fsys := must[fs.FS](t)(goerofs.Open(f))
	for path, want := range map[string]string{"a": "one", "d/b": "one"} {
		if b, err := fs.ReadFile(fsys, path); err != nil || string(b) != want {
			t.Errorf("%s holds %q (%v)", path, b, err)
		}
	}
	st := must[fs.FileInfo](t)(fs.Lstat(fsys, "a")).Sys().(*goerofs.Stat)
	if st.Nlink != 2 || st.UID != 0 || st.GID != 0 {
		t.Errorf("%+v", st)
	}
	if to, err := fs.ReadLink(fsys, "s"); err != nil || to != "../../../etc/passwd" {
		t.Errorf("link to %q (%v)", to, err)
	}
	write("a", "two")
	changed := must[*Lease](t)(s.Get(t.Context(), i))
	if changed.Digest == first.Digest {
		t.Error("a change was not seen")
	}
	for _, l := range []*Lease{first, again, changed} {
		l.Close()
	}

	// Something that changes while it is read.
	d := must[*directory](t)(readDirectory(dir, 1<<20))
	defer d.root.Close()
	write("a", "six")
	if err := d.unchanged(); err == nil {
		t.Error("a change while it was read was not seen")
	}
	if _, err := s.Get(t.Context(), declaration.Image{Kind: declaration.ImageDir, Name: filepath.Join(dir, "a")}); err == nil {
		t.Error("a file is a directory")
	}
}

func TestDamage(t *testing.T) {
	s := open(t, 1<<20)
	dir := t.TempDir()
	i := declaration.Image{Kind: declaration.ImageDir, Name: dir}
	l := must[*Lease](t)(s.Get(t.Context(), i))
	l.Close()
	if err := os.Truncate(l.Path, l.Size/2); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Get(t.Context(), i); err == nil || !strings.Contains(err.Error(), "damaged") {
		t.Errorf("a file system that was cut off: %v", err)
	}
	if err := os.WriteFile(filepath.Join(filepath.Dir(l.Path), indexName), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := s.List(); err == nil || !strings.Contains(err.Error(), "damaged") {
		t.Errorf("an index that was cut off: %v", err)
	}
}

// TestLeavesNothing has a build fail at each step, which leaves nothing.
func TestLeavesNothing(t *testing.T) {
	s := open(t, 1<<20)
	for n, plant := range []func(*builder) (*tree, error){
		func(*builder) (*tree, error) { return nil, fmt.Errorf("no") },
		func(b *builder) (*tree, error) {
			n, err := b.node(&tar.Header{Name: "a", Typeflag: tar.TypeReg})
			if err != nil {
				return nil, err
			}
			n.Size, n.Open = 10, func() (io.ReadCloser, error) { return nil, errors.New("no") }
			return b.tree, b.tree.put(b.tree.root, "a", n)
		},
	} {
		if _, err := s.make(t.Context(), Image{Digest: strings.Repeat("a", 64)}, "", plant); err == nil {
			t.Errorf("%d: no error", n)
		}
		left(t, s, 0)
	}
}

// TestDisk has a disk image used where it is, as long as nobody writes to it.
func TestDisk(t *testing.T) {
	s := open(t, 1<<20)
	image := filepath.Join(t.TempDir(), "disk.img")
	write := func(b []byte) {
		t.Helper()
		if err := os.WriteFile(image, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	get := func(tag string) (*Lease, error) {
		return s.Get(t.Context(), declaration.Image{Kind: declaration.ImageDisk, Name: image, Tag: tag})
	}
	write(testimage.Disk(t))
	for tag, offset := range map[string]int64{"": 3 << 20, "2": 2 << 20} { // the first is that of the architecture
		l, err := get(tag)
		if err != nil {
			t.Fatal(err)
		}
		if l.Path != image || l.FileSystem != "ext4" || l.Offset != offset || l.Size != 1<<20 {
			t.Errorf("partition %q: %+v", tag, l.Image)
		}
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	}
	if left, err := s.List(); err != nil || len(left) > 0 {
		t.Errorf("the store has %+v, %v", left, err)
	}
	writer, err := os.OpenFile(image, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := ofdLock(writer, unix.F_WRLCK, 0, 0); err != nil {
		t.Fatal(err)
	}
	refused := func(tag, want string) {
		t.Helper()
		if l, err := get(tag); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v, %v, want an error that says %q", l, err, want)
		}
	}
	refused("", "to write to it")
	if err := writer.Close(); err != nil {
		t.Fatal(err)
	}
	refused("7", "no partition 7")
	write(append(testimage.Ext4(t), 0))
	refused("", "not whole sectors: truncate")
	image = t.TempDir()
	refused("", "neither a file nor a block device")
}
