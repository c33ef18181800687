package boot

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"

	"warder/boot/bzimage"
	"warder/boot/expand"
	"warder/boot/image"
	"warder/boot/vmlinux"
)

// maxExpanded bounds what a compressed file may expand to, in bytes.
const maxExpanded = 512 << 20

// headSize is how much of a file tells what it is.
const headSize = 4096

// Open opens the kernel file at path. What had to be expanded is kept in
// cacheDir by the digest of the file and taken from there the next time; an
// empty cacheDir keeps nothing.
//
// An error about a file that is no kernel says what the file is; it is a
// NotKernelError when nothing of the file was recognised as one.
func Open(path, cacheDir string) (*Kernel, error) {
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
	k, err := parse(f, st.Size(), cache{dir: cacheDir}.store(f, st.Size()))
	if err != nil {
		return nil, fmt.Errorf("kernel %s: %w", path, err)
	}
	return k, nil
}

// Parse is Open for a kernel that is size bytes of r, without a cache.
func Parse(r io.ReaderAt, size int64) (*Kernel, error) { return parse(r, size, inMemory) }

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

func parse(r io.ReaderAt, size int64, keep store) (*Kernel, error) {
	head := make([]byte, min(size, headSize))
	if n, err := r.ReadAt(head, 0); n < len(head) {
		return nil, fmt.Errorf("read: %w", err)
	}
	switch {
	case bzimage.Detect(head):
		return parseBzImage(r, size, keep)
	case image.DetectZBoot(head):
		return parseZBoot(r, size, keep)
	case image.Detect(head) || vmlinux.Detect(head):
		return parsePlain(r, size)
	case expand.Detect(head) != "":
		return parseCompressed(r, size, expand.Detect(head), keep)
	}
	return nil, identify(r, head, size)
}

// parsePlain reads a kernel that nothing is wrapped around.
func parsePlain(r io.ReaderAt, size int64) (*Kernel, error) {
	head := make([]byte, min(size, headSize))
	if n, err := r.ReadAt(head, 0); n < len(head) {
		return nil, fmt.Errorf("read: %w", err)
	}
	switch {
	case vmlinux.Detect(head):
		f, err := vmlinux.Parse(r, size)
		if err != nil {
			return nil, err
		}
		return fromELF(f), nil
	case image.Detect(head):
		f, err := image.Parse(r, size)
		if err != nil {
			return nil, err
		}
		return &Kernel{
			Arch: "arm64", Format: Image,
			Segments: []Segment{{Addr: f.TextOffset, Data: f.Data}},
			Size:     f.Size,
		}, nil
	}
	return nil, identify(r, head, size)
}

func fromELF(f *vmlinux.File) *Kernel {
	k := &Kernel{Arch: "amd64", Format: ELF, Entry: f.Entry, PVHEntry: f.PVHEntry}
	for _, s := range f.Segments {
		k.Segments = append(k.Segments, Segment{Addr: s.Addr, Data: s.Data})
		k.Size = s.Addr + s.Size - f.Segments[0].Addr
	}
	return k
}

func parseBzImage(r io.ReaderAt, size int64, keep store) (*Kernel, error) {
	f, err := bzimage.Parse(r, size)
	if err != nil {
		return nil, err
	}
	if !f.Is64 {
		return nil, errors.New("a bzImage of a 32-bit kernel: give a 64-bit one")
	}
	k, err := parseExpanded(f, keep)
	if err != nil {
		return nil, fmt.Errorf("bzImage: %w", err)
	}
	if k.Arch != "amd64" {
		return nil, fmt.Errorf("a bzImage that holds an %s: no kernel that can run", k.Format)
	}
	k.Format, k.Compression, k.SetupHeader = BzImage, string(f.Method), f.Header
	return k, nil
}

func parseZBoot(r io.ReaderAt, size int64, keep store) (*Kernel, error) {
	f, err := image.ParseZBoot(r, size)
	if err != nil {
		return nil, err
	}
	k, err := parseExpanded(f, keep)
	if err != nil {
		return nil, fmt.Errorf("EFI zboot kernel: %w", err)
	}
	if k.Arch != "arm64" {
		return nil, fmt.Errorf("an EFI zboot kernel that holds an %s: no kernel that can run", k.Format)
	}
	k.Format, k.Compression = ZBoot, string(f.Method)
	return k, nil
}

// parseCompressed reads a kernel that was compressed as a whole, such as the
// Image.gz of the arm64 build.
func parseCompressed(r io.ReaderAt, size int64, m expand.Method, keep store) (*Kernel, error) {
	if err := peek(r, size, m); err != nil {
		return nil, err
	}
	k, err := parseExpanded(compressed{r, size, m}, keep)
	if err != nil {
		return nil, fmt.Errorf("%s file: %w", m, err)
	}
	k.Compression = string(m)
	return k, nil
}

// peek refuses compressed data that holds something else than a kernel before
// all of it is expanded.
func peek(r io.ReaderAt, size int64, m expand.Method) error {
	z, err := expand.NewReader(m, io.NewSectionReader(r, 0, size))
	if err != nil {
		return fmt.Errorf("%s file: %w", m, err)
	}
	defer z.Close()
	head := make([]byte, headSize)
	n, err := io.ReadFull(z, head)
	head = head[:n]
	if vmlinux.Detect(head) || image.Detect(head) {
		return nil
	}
	if n == 0 && err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("%s file: %w", m, err)
	}
	inner := identify(bytes.NewReader(head), head, int64(n))
	return &NotKernelError{Is: fmt.Sprintf("%s-compressed data that holds %s", m, inner.Is), Instead: inner.Instead}
}

type compressed struct {
	r    io.ReaderAt
	size int64
	m    expand.Method
}

func (c compressed) WriteTo(w io.Writer) (int64, error) {
	return expand.Copy(w, c.m, io.NewSectionReader(c.r, 0, c.size), maxExpanded)
}

// parseExpanded reads the kernel that w writes.
func parseExpanded(w io.WriterTo, keep store) (*Kernel, error) {
	x, err := keep(func(dst io.Writer) error {
		_, err := w.WriteTo(dst)
		return err
	})
	if err != nil {
		return nil, err
	}
	defer x.Close()
	return parsePlain(x, x.Size())
}
