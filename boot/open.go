package boot

import (
	"bytes"
	"fmt"
	"io"
	"os"

	"warder/boot/image"
	"warder/boot/vmlinux"
)

// Open opens the kernel file at path. What had to be expanded is kept in
// cacheDir by the digest of the file and taken from there the next time; an
// empty cacheDir keeps nothing.
//
// An error about a file that is no kernel says what the file is; it is a
// NotKernelError when nothing of the file was recognised as one.
func Open(path, cacheDir string) (*Kernel, error) { return OpenInto(path, cacheDir, onHeap) }

// A Place gives the n bytes of memory that what belongs at addr is read into;
// see Segment for what addr is.
type Place func(addr, n uint64) []byte

func onHeap(_, n uint64) []byte { return make([]byte, n) }

// OpenInto is Open for a kernel whose segments go to where place says, so that a
// kernel of 50 MB is read into a guest's memory and nowhere else.
func OpenInto(path, cacheDir string, place Place) (*Kernel, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("kernel: %w", err)
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("kernel: %w", err)
	}
	if !st.Mode().IsRegular() {
		return nil, fmt.Errorf("kernel %s: %w", path, notRegular(st.Mode()))
	}
	k, err := parse(f, st.Size(), cache{dir: cacheDir}.store(f, st.Size()), place)
	if err != nil {
		return nil, fmt.Errorf("kernel %s: %w", path, err)
	}
	return k, nil
}

// Parse is Open for a kernel that is size bytes of r, without a cache.
func Parse(r io.ReaderAt, size int64) (*Kernel, error) { return parse(r, size, inMemory, onHeap) }

// Unwrap writes the kernel in the size bytes of r to w without its compression,
// in a form that Open takes at once: an ELF vmlinux or an arm64 Image. It
// returns which of the two.
func Unwrap(w io.Writer, r io.ReaderAt, size int64) (Format, error) {
	c, err := look(r, size)
	if err != nil {
		return "", err
	}
	_, err = c.content.WriteTo(w)
	return c.inner, err
}

// A store runs fill once for a file and gives what it wrote; a later run for the
// same file may give the same bytes without it.
type store func(fill func(w io.Writer) error) (expanded, error)

// expanded is an expanded kernel.
type expanded interface {
	io.ReaderAt
	io.Closer
	Size() int64
}

func inMemory(fill func(w io.Writer) error) (expanded, error) {
	var buf bytes.Buffer
	if err := fill(&buf); err != nil {
		return nil, err
	}
	return memory{bytes.NewReader(buf.Bytes())}, nil
}

type memory struct{ *bytes.Reader }

func (memory) Close() error { return nil }

func parse(r io.ReaderAt, size int64, keep store, place Place) (*Kernel, error) {
	c, err := look(r, size)
	if err != nil {
		return nil, err
	}
	if c.format == c.inner && c.method == "" {
		return parseInner(c.inner, r, size, place)
	}
	x, err := keep(func(w io.Writer) error {
		_, err := c.content.WriteTo(w)
		return err
	})
	if err != nil {
		return nil, err
	}
	defer x.Close()
	k, err := parseInner(c.inner, x, x.Size(), place)
	if err != nil {
		return nil, fmt.Errorf("%s holds no usable kernel: %w", c.name(), err)
	}
	k.Format, k.Compression, k.SetupHeader = c.format, string(c.method), c.header
	return k, nil
}

// name is the container in an error.
func (c *container) name() string {
	if c.format == c.inner {
		return string(c.method) + " file"
	}
	return string(c.format)
}

func parseInner(f Format, r io.ReaderAt, size int64, place Place) (*Kernel, error) {
	if f == ELF {
		f, err := vmlinux.Parse(r, size, vmlinux.Place(place))
		if err != nil {
			return nil, err
		}
		k := &Kernel{Arch: "amd64", Format: ELF, Entry: f.Entry, PVHEntry: f.PVHEntry}
		for _, s := range f.Segments {
			k.Segments = append(k.Segments, Segment{Addr: s.Addr, Data: s.Data})
			k.Size = s.Addr + s.Size - f.Segments[0].Addr
		}
		return k, nil
	}
	i, err := image.Parse(r, size, place)
	if err != nil {
		return nil, err
	}
	return &Kernel{
		Arch: "arm64", Format: Image,
		Segments: []Segment{{Addr: i.TextOffset, Data: i.Data}},
		Size:     i.Size,
	}, nil
}
