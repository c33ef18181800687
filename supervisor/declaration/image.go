package declaration

import (
	"fmt"
	"strconv"
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
	ImageDisk     ImageKind = "disk" // an image of a disk, or a block device, with a file system
	ImageMade     ImageKind = "made" // a directory of what was made of one
)

// An Image names what the root file system of a service is made of.
type Image struct {
	Kind ImageKind
	// Name is the reference to a registry with all that it leaves to defaults, or a
	// path of the host.
	Name string
	// Tag says which image of a layout or archive is meant, or which partition of a disk,
	// by its number; "" for the only one.
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

// maxPartition is what a GPT has usually.
const maxPartition = 128

// ParseImage parses a registry's reference, oci:DIR[:TAG], tar:FILE[:TAG], dir:DIR,
// disk:FILE[:PARTITION] or made:DIR. Behind the last colon of a path is a tag, unless
// there is a slash.
func ParseImage(s string) (Image, error) {
	kind, path, _ := strings.Cut(s, ":")
	switch k := ImageKind(kind); {
	case (k == ImageDir || k == ImageMade) && path != "":
		return Image{Kind: k, Name: path}, nil
	case k == ImageDisk && path != "":
		i := Image{Kind: k, Name: path}
		if at := strings.LastIndexByte(path, ':'); at > 0 && !strings.Contains(path[at:], "/") {
			i.Name, i.Tag = path[:at], path[at+1:]
			if n, err := strconv.Atoi(i.Tag); err != nil || n < 1 || n > maxPartition || strconv.Itoa(n) != i.Tag {
				return Image{}, fmt.Errorf("%q: behind the colon is the number of a partition, 1 to %d", clip(s), maxPartition)
			}
		}
		return i, nil
	case (k == ImageLayout || k == ImageArchive) && path != "":
		i := Image{Kind: k, Name: path}
		if at := strings.LastIndexByte(path, ':'); at > 0 && !strings.Contains(path[at:], "/") {
			i.Name, i.Tag = path[:at], path[at+1:]
		}
		return i, nil
	case strings.HasPrefix(s, "/") || strings.HasPrefix(s, "."):
		return Image{}, fmt.Errorf("%q: for a path, say of what kind it is: oci:DIR, tar:FILE, dir:DIR or disk:FILE", clip(s))
	}
	ref, err := registry.ParseReference(s)
	if err != nil {
		return Image{}, fmt.Errorf("%q: give a registry's reference as in alpine:3 or ghcr.io/owner/name@sha256:..., oci:DIR[:TAG], tar:FILE[:TAG], dir:DIR or disk:FILE[:PARTITION]", clip(s))
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
