package declaration

import (
	"fmt"
	"strings"

	registry "github.com/google/go-containerregistry/pkg/name"
)

// An ImageKind is where an image is.
type ImageKind string

// The kinds of images. What is before the colon of the others is no registry.
const (
	ImageRegistry ImageKind = ""     // as container tools name them: alpine, ghcr.io/a/b:tag, c@sha256:...
	ImageLayout   ImageKind = "oci"  // a directory of the OCI's image layout
	ImageArchive  ImageKind = "tar"  // an archive of such a directory, or of docker save
	ImageDir      ImageKind = "dir"  // a directory that is the file system itself
	ImageMade     ImageKind = "made" // a directory of what was made of one
)

// An Image names what the root file system of a service is made of.
type Image struct {
	Kind ImageKind
	// Name is the reference to a registry with all that it leaves to defaults, or a
	// path of the host.
	Name string
	// Tag says which image of a layout or archive is meant, "" for its only one.
	Tag string
}

// String is the image as it is written.
func (i Image) String() string {
	s := i.Name
	if i.Kind != ImageRegistry {
		s = string(i.Kind) + ":" + s
	}
	if i.Tag != "" {
		s += ":" + i.Tag
	}
	return s
}

// ParseImage parses a registry's reference, oci:DIR[:TAG], tar:FILE[:TAG], dir:DIR or
// made:DIR. Behind the last colon of a path is a tag, unless there is a slash.
func ParseImage(s string) (Image, error) {
	kind, path, _ := strings.Cut(s, ":")
	switch k := ImageKind(kind); {
	case (k == ImageDir || k == ImageMade) && path != "":
		return Image{Kind: k, Name: path}, nil
	case (k == ImageLayout || k == ImageArchive) && path != "":
		i := Image{Kind: k, Name: path}
		if at := strings.LastIndexByte(path, ':'); at > 0 && !strings.Contains(path[at:], "/") {
			i.Name, i.Tag = path[:at], path[at+1:]
		}
		return i, nil
	case strings.HasPrefix(s, "/") || strings.HasPrefix(s, "."):
		return Image{}, fmt.Errorf("%q: for a path, say of what kind it is: oci:DIR, tar:FILE or dir:DIR", clip(s))
	}
	ref, err := registry.ParseReference(s)
	if err != nil {
		return Image{}, fmt.Errorf("%q: give a registry's reference as in alpine:3 or ghcr.io/owner/name@sha256:..., oci:DIR[:TAG], tar:FILE[:TAG] or dir:DIR", clip(s))
	}
	return Image{Name: ref.Name()}, nil
}

// ResolveImage makes the path of an image absolute, which is relative to the
// directory base. One that cannot be parsed stays as it is, for Check to complain
// about.
func ResolveImage(base, s string) string {
	i, err := ParseImage(s)
	if err != nil || i.Kind == ImageRegistry {
		return s
	}
	i.Name = absolute(base, i.Name)
	return i.String()
}
