// Package testimage makes images for tests that boot VMs of them.
package testimage

import (
	"archive/tar"
	"bytes"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/u-root/u-root/pkg/cpio"
)

// userLand is the base image of guests, a cpio archive, as what an image has: the
// programs. PID 1 is there as the command that asks for secrets.
func userLand(t testing.TB, base []byte, each func(h *tar.Header, content io.Reader)) {
	t.Helper()
	for r := cpio.Newc.Reader(bytes.NewReader(base)); ; {
		rec, err := r.ReadRecord()
		if err == io.EOF {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		content := io.NewSectionReader(rec, 0, int64(rec.FileSize))
		h, body := &tar.Header{Name: rec.Name, Mode: int64(rec.Mode & 0o7777)}, io.Reader(content)
		switch rec.Mode & cpio.S_IFMT {
		case cpio.S_IFREG:
			h.Typeflag, h.Size = tar.TypeReg, content.Size()
		case cpio.S_IFLNK:
			target, err := io.ReadAll(content)
			if err != nil {
				t.Fatal(err)
			}
			h.Typeflag, h.Linkname, body = tar.TypeSymlink, string(target), nil
		}
		switch rec.Name {
		case "init":
			h.Name = "bin/secret"
		case "bin/secret":
			continue
		}
		if h.Typeflag != 0 && (h.Name == "bin/secret" || strings.HasPrefix(rec.Name, "bin/") || rec.Name == "etc/passwd" || rec.Name == "etc/group") {
			each(h, body)
		}
	}
}

// WriteLayout makes an image layout with one image: the user land of base, a file
// /etc/of-the-image that holds below, and a command that says hello from its user.
func WriteLayout(t testing.TB, dir string, base []byte) {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	add := func(h *tar.Header, content io.Reader) {
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if content != nil {
			if _, err := io.Copy(w, content); err != nil {
				t.Fatal(err)
			}
		}
	}
	userLand(t, base, add)
	add(&tar.Header{Name: "etc/of-the-image", Mode: 0o644, Size: 5}, strings.NewReader("below"))
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	img, err := mutate.AppendLayers(mutate.MediaType(empty.Image, types.OCIManifestSchema1), static.NewLayer(b.Bytes(), types.OCIUncompressedLayer))
	if err != nil {
		t.Fatal(err)
	}
	config, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	config = config.DeepCopy()
	config.OS, config.Architecture = "linux", runtime.GOARCH
	config.Config = v1.Config{
		Entrypoint: []string{"sh", "-c"}, Cmd: []string{`echo "$GREETING from $(id -u) in $(pwd)"`},
		Env: []string{"GREETING=hello", "PATH=/bin"}, WorkingDir: "/srv/app", User: "nobody",
	}
	if img, err = mutate.ConfigFile(img, config); err != nil {
		t.Fatal(err)
	}
	if _, err := layout.Write(dir, mutate.AppendManifests(empty.Index, mutate.IndexAddendum{Add: img})); err != nil {
		t.Fatal(err)
	}
}

// WriteDir makes a directory that holds the same user land.
func WriteDir(t testing.TB, dir string, base []byte) {
	t.Helper()
	userLand(t, base, func(h *tar.Header, content io.Reader) {
		path := filepath.Join(dir, h.Name)
		err := os.MkdirAll(filepath.Dir(path), 0o755)
		if err == nil && content == nil {
			err = os.Symlink(h.Linkname, path)
		} else if err == nil {
			var b []byte
			if b, err = io.ReadAll(content); err == nil {
				err = os.WriteFile(path, b, os.FileMode(h.Mode))
			}
		}
		if err != nil {
			t.Fatal(err)
		}
	})
}
