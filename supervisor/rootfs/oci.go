package rootfs

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// files are those of an image layout, in a directory or in an archive.
type files interface {
	open(name string) (io.ReadCloser, error)
	Close() error
}

// rootFiles are the files of a directory. Links in it do not lead out.
type rootFiles struct{ *os.Root }

func (r rootFiles) open(name string) (io.ReadCloser, error) {
	f, err := r.Open(name)
	if err != nil {
		return nil, err
	}
	if st, err := f.Stat(); err != nil || !st.Mode().IsRegular() {
		return nil, errors.Join(fmt.Errorf("%s is no file", name), err, f.Close())
	}
	return f, nil
}

// tarFiles are the files of an archive that is not compressed.
type tarFiles struct {
	*os.File
	at map[string][2]int64 // where they are, and their sizes
}

// maxArchived is how many files an archive of images may have.
const maxArchived = 10_000

func openTar(file string) (*tarFiles, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	t := &tarFiles{f, make(map[string][2]int64)}
	if err := t.index(); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return t, nil
}

func (t *tarFiles) index() error {
	for tr := tar.NewReader(t.File); ; {
		h, err := tr.Next()
		switch {
		case err == io.EOF && len(t.at) > 0:
			return nil
		case err == io.EOF || errors.Is(err, tar.ErrHeader):
			return errors.New("it is no tar archive, or a compressed one: gunzip it")
		case err != nil:
			return err
		case len(t.at) >= maxArchived:
			return fmt.Errorf("it has more than %d files: is it an archive of images?", maxArchived)
		}
		if h.Typeflag != tar.TypeReg {
			continue
		}
		at, err := t.Seek(0, io.SeekCurrent) // the reader reads no further than the header
		if err != nil {
			return err
		}
		t.at[path.Clean(h.Name)] = [2]int64{at, h.Size}
	}
}

func (t *tarFiles) open(name string) (io.ReadCloser, error) {
	where, ok := t.at[path.Clean(name)]
	if !ok {
		return nil, fmt.Errorf("there is no %s in it", name)
	}
	return io.NopCloser(io.NewSectionReader(t.File, where[0], where[1])), nil
}

// openLayout reads an image of a layout, which it closes with the content.
func openLayout(f files, tag, arch string) (_ *content, err error) {
	defer func() {
		if err != nil {
			f.Close()
		}
	}()
	blob := func(d v1.Descriptor) (io.ReadCloser, error) {
		return f.open(path.Join("blobs", d.Digest.Algorithm, d.Digest.Hex)) // both are letters and digits
	}
	r, err := f.open("index.json")
	if err != nil {
		return nil, fmt.Errorf("no image layout: %w", err)
	}
	raw, err := readShort(r)
	r.Close()
	if err != nil {
		return nil, err
	}
	d, err := choose(raw, tag, arch, blob)
	if err != nil {
		return nil, err
	}
	if raw, err = readBlob(d, blob); err != nil {
		return nil, fmt.Errorf("its manifest: %w", err)
	}
	c, err := fromManifest(raw, arch, blob)
	if err != nil {
		return nil, err
	}
	c.close = f.Close
	return c, nil
}

// tagAnnotations are where a layout has the name of an image.
var tagAnnotations = []string{"org.opencontainers.image.ref.name", "io.containerd.image.name"}

// choose finds the image of a layout that is meant, and of several the one of the
// architecture.
func choose(index []byte, tag, arch string, blob opener) (v1.Descriptor, error) {
	const deepest = 4
	for range deepest {
		m, err := v1.ParseIndexManifest(bytes.NewReader(index))
		if err != nil {
			return v1.Descriptor{}, fmt.Errorf("its index: %w", err)
		}
		var found []v1.Descriptor
		var tags []string
		for _, d := range m.Manifests {
			if !d.MediaType.IsImage() && !d.MediaType.IsIndex() {
				continue
			}
			named := tag == ""
			for _, a := range tagAnnotations {
				name := d.Annotations[a]
				if name != "" {
					tags = append(tags, clip(name))
				}
				named = named || name == tag || strings.HasSuffix(name, ":"+tag)
			}
			if p := d.Platform; p != nil && (p.OS != "linux" || p.Architecture != arch) {
				continue
			}
			if named {
				found = append(found, d)
			}
		}
		switch {
		case len(found) == 0 && tag != "":
			return v1.Descriptor{}, fmt.Errorf("it has no image %q for linux/%s; it has %q", tag, arch, tags)
		case len(found) == 0:
			return v1.Descriptor{}, fmt.Errorf("it has no image for linux/%s", arch)
		case len(found) > 1:
			return v1.Descriptor{}, fmt.Errorf("it has several images for linux/%s: say which behind a colon, one of %q", arch, tags)
		case found[0].MediaType.IsImage():
			return found[0], nil
		}
		if index, err = readBlob(found[0], blob); err != nil {
			return v1.Descriptor{}, fmt.Errorf("its index: %w", err)
		}
		tag = ""
	}
	return v1.Descriptor{}, errors.New("it has indexes in indexes in indexes")
}
