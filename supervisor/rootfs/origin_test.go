package rootfs

import (
	"archive/tar"
	"context"
	"errors"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"warder/supervisor/declaration"
)

// TestOrigins has the same image from everywhere, which is made once.
func TestOrigins(t *testing.T) {
	dir := t.TempDir()
	must[layout.Path](t)(layout.Write(filepath.Join(dir, "layout"), several(t)))
	two := must[layout.Path](t)(layout.Write(filepath.Join(dir, "two"), empty.Index))
	for _, tag := range []string{"one", "two"} {
		if err := two.AppendImage(example(t, arch), layout.WithAnnotations(map[string]string{tagAnnotations[0]: tag})); err != nil {
			t.Fatal(err)
		}
	}
	saved := filepath.Join(dir, "saved.tar")
	if err := tarball.WriteToFile(saved, must[name.Tag](t)(name.NewTag("example:3")), example(t, arch)); err != nil {
		t.Fatal(err)
	}
	layoutTar := filepath.Join(dir, "layout.tar")
	f := must[*os.File](t)(os.Create(layoutTar))
	w := tar.NewWriter(f)
	if err := errors.Join(w.AddFS(os.DirFS(filepath.Join(dir, "layout"))), w.Close(), f.Close()); err != nil {
		t.Fatal(err)
	}
	s := open(t, 1<<30)
	for _, text := range []string{
		"oci:" + dir + "/layout", "oci:" + dir + "/two:two", "tar:" + saved, "tar:" + saved + ":3", "tar:" + layoutTar,
	} {
		i := must[declaration.Image](t)(declaration.ParseImage(text))
		l, err := s.Get(t.Context(), i)
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		holds(t, l)
	}
	if all := must[[]Image](t)(s.List()); len(all) != 1 {
		t.Errorf("%d images were made of one", len(all))
	}
	for text, says := range map[string]string{
		"oci:" + dir + "/two":               "several images",
		"oci:" + dir + "/two:three":         `it has ["one" "two"]`,
		"oci:" + dir + "/none":              "no such file",
		"oci:" + dir:                        "no image layout",
		"tar:" + saved + ":4":               `it has not one image "4"`,
		"tar:" + dir + "/layout/index.json": "no tar archive",
	} {
		if _, err := s.Get(t.Context(), must[declaration.Image](t)(declaration.ParseImage(text))); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: error %v, want %q", text, err, says)
		}
	}
}

// TestRegistry has several ask a registry for an image at once.
func TestRegistry(t *testing.T) {
	config := must[v1.Hash](t)(example(t, arch).ConfigName())
	var layers, requests atomic.Int32
	reg := registry.New(registry.Logger(log.New(io.Discard, "", 0)))
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		requests.Add(1)
		if r.Method == http.MethodGet && strings.Contains(r.URL.Path, "/blobs/") && !strings.HasSuffix(r.URL.Path, config.String()) {
			layers.Add(1)
		}
		reg.ServeHTTP(w, r)
	}))
	defer server.Close()
	host := strings.TrimPrefix(server.URL, "http://")
	ref := must[name.Reference](t)(name.ParseReference(host + "/a/b:c"))
	if err := remote.WriteIndex(ref, several(t)); err != nil {
		t.Fatal(err)
	}
	layers.Store(0)
	i := must[declaration.Image](t)(declaration.ParseImage(host + "/a/b:c"))
	s := open(t, 1<<30)
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			l, err := s.Pull(t.Context(), i)
			if err != nil {
				t.Error(err)
				return
			}
			l.Close()
		})
	}
	all.Wait()
	// One that comes late may ask what there is.
	if n := layers.Load(); n != 3 {
		t.Errorf("%d layers were fetched, want 3", n)
	}
	requests.Store(0)
	holds(t, must[*Lease](t)(s.Get(t.Context(), i)))
	if n := requests.Load(); n != 0 {
		t.Errorf("%d requests for what is there", n)
	}

	// Something newer of that name.
	newer := must[v1.Image](t)(mutate.AppendLayers(example(t, arch), compressed(t, types.OCILayer, archive(t, "file newer x"))))
	if err := remote.Write(ref, newer); err != nil {
		t.Fatal(err)
	}
	old := must[*Lease](t)(s.Get(t.Context(), i))
	got := must[*Lease](t)(s.Pull(t.Context(), i))
	if old.Close(); old.Digest == got.Digest {
		t.Error("it is still the old one")
	}
	got.Close()
	if l := must[*Lease](t)(s.Get(t.Context(), i)); l.Digest != got.Digest {
		t.Error("the name is still the old one's")
	} else {
		l.Close()
	}

	for text, says := range map[string]string{
		host + "/a/none": "has no such image",
		host + "/a/b@sha256:" + strings.Repeat("0", 64): "has no such image",
	} {
		if _, err := s.Get(t.Context(), must[declaration.Image](t)(declaration.ParseImage(text))); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: error %v, want %q", text, err, says)
		}
	}
	server.Close()
	if _, err := s.Pull(t.Context(), i); err == nil {
		t.Error("a registry that is gone has an image")
	}
	empty := open(t, 1<<30)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := empty.Get(ctx, i); !errors.Is(err, context.Canceled) {
		t.Errorf("nobody waits any more: %v", err)
	}
}
