package rootfs

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
	"github.com/google/go-containerregistry/pkg/v1/tarball"

	"warder/supervisor/declaration"
)

// openImage finds an image of layers where its name says. It is to be closed.
func openImage(ctx context.Context, i declaration.Image, arch string) (*content, error) {
	switch i.Kind {
	case declaration.ImageLayout:
		root, err := os.OpenRoot(i.Name)
		if err != nil {
			return nil, err
		}
		return openLayout(rootFiles{root}, i.Tag, arch)
	case declaration.ImageArchive:
		t, err := openTar(i.Name)
		if err != nil {
			return nil, err
		}
		if _, ok := t.at["index.json"]; ok { // docker save writes both since its version 25
			return openLayout(t, i.Tag, arch)
		}
		return openSaved(t, i, arch)
	}
	return openRemote(ctx, i.Name, arch)
}

// openRemote asks a registry. Who the user is to it says the configuration of
// docker and podman. It is waited for as long as it says something.
func openRemote(ctx context.Context, reference, arch string) (*content, error) {
	ref, err := name.ParseReference(reference)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	p := patience{ctx, cancel}
	c, err := p.ask(ref, arch)
	if err != nil {
		cancel(nil)
		return nil, explain(err, ref)
	}
	c.close = func() error { cancel(nil); return nil }
	return c, nil
}

func (p patience) ask(ref name.Reference, arch string) (c *content, err error) {
	err = p.during(func() error {
		img, err := remote.Image(ref, remote.WithContext(p.ctx), remote.WithAuthFromKeychain(authn.DefaultKeychain),
			remote.WithPlatform(v1.Platform{OS: "linux", Architecture: arch}))
		if err != nil {
			return err
		}
		raw, err := img.RawManifest()
		if err != nil {
			return err
		}
		c, err = fromManifest(raw, arch, func(d v1.Descriptor) (r io.ReadCloser, err error) {
			err = p.during(func() error {
				l, err := img.LayerByDigest(d.Digest) // the configuration is one to it
				if err != nil {
					return err
				}
				r, err = l.Compressed()
				return err
			})
			return patientReader{r, p}, err
		})
		return err
	})
	return c, err
}

// patience ends a context when nothing happens for long.
type patience struct {
	ctx    context.Context
	cancel context.CancelCauseFunc
}

const stallTime = time.Minute

var errStalled = fmt.Errorf("the registry has said nothing for %v", stallTime)

func (p patience) during(f func() error) error {
	t := time.AfterFunc(stallTime, func() { p.cancel(errStalled) })
	defer t.Stop()
	err := f()
	if err != nil && errors.Is(context.Cause(p.ctx), errStalled) {
		return errStalled
	}
	return err
}

type patientReader struct {
	io.ReadCloser
	p patience
}

func (r patientReader) Read(b []byte) (n int, err error) {
	err = r.p.during(func() error {
		n, err = r.ReadCloser.Read(b)
		return err
	})
	return n, err
}

// explain says what to do about a registry's refusal.
func explain(err error, ref name.Reference) error {
	t, ok := errors.AsType[*transport.Error](err)
	switch {
	case !ok:
	case t.StatusCode == http.StatusUnauthorized || t.StatusCode == http.StatusForbidden:
		return fmt.Errorf("%s refuses: is there such an image? If it is not for everybody, log in: docker login %s, or podman (%w)", ref.Context().RegistryStr(), ref.Context().RegistryStr(), err)
	case t.StatusCode == http.StatusNotFound:
		return fmt.Errorf("%s has no such image (%w)", ref.Context().RegistryStr(), err)
	}
	return err
}

// openSaved reads what docker save wrote before it wrote layouts.
func openSaved(t *tarFiles, i declaration.Image, arch string) (_ *content, err error) {
	defer func() {
		if err != nil {
			t.Close()
		}
	}()
	short := func(name string) error {
		where, ok := t.at[name]
		switch {
		case !ok:
			return fmt.Errorf("no archive of an image: there is no %s in it", clip(name))
		case where[1] > maxJSON:
			return fmt.Errorf("%s in it has %d bytes: there can be %d", clip(name), where[1], maxJSON)
		}
		return nil
	}
	// The library reads these at once.
	if err := short("manifest.json"); err != nil {
		return nil, err
	}
	manifest, err := tarball.LoadManifest(func() (io.ReadCloser, error) { return os.Open(i.Name) })
	if err != nil {
		return nil, fmt.Errorf("its manifest: %w", err)
	}
	for _, d := range manifest {
		if err := short(d.Config); err != nil {
			return nil, err
		}
	}
	tag, err := savedTag(manifest, i.Tag)
	if err != nil {
		return nil, err
	}
	img, err := tarball.ImageFromPath(i.Name, tag)
	if err != nil {
		return nil, err
	}
	layers, err := img.Layers()
	if err != nil {
		return nil, err
	}
	if len(layers) > maxLayers {
		return nil, fmt.Errorf("it has %d layers: there can be %d", len(layers), maxLayers)
	}
	c := &content{close: t.Close}
	for _, l := range layers {
		c.layers = append(c.layers, source{0, l.Uncompressed})
	}
	raw, err := img.RawConfigFile()
	if err != nil {
		return nil, err
	}
	return c, c.setConfig(raw, arch)
}

// savedTag finds the whole name of the image of an archive that is meant, nil for
// the only one.
func savedTag(m tarball.Manifest, tag string) (*name.Tag, error) {
	var all, found []string
	for _, d := range m {
		for _, t := range d.RepoTags {
			all = append(all, clip(t))
			if t == tag || strings.HasSuffix(t, ":"+tag) {
				found = append(found, t)
			}
		}
	}
	switch {
	case tag == "" && len(m) == 1:
		return nil, nil
	case tag == "":
		return nil, fmt.Errorf("it has %d images: say which behind a colon, one of %q", len(m), all)
	case len(found) != 1:
		return nil, fmt.Errorf("it has not one image %q: it has %q", tag, all)
	}
	t, err := name.NewTag(found[0])
	return &t, err
}
