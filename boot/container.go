package boot

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	"warder/boot/bzimage"
	"warder/boot/expand"
	"warder/boot/image"
	"warder/boot/vmlinux"
)

// maxExpanded bounds what a compressed file may expand to, in bytes.
const maxExpanded = 512 << 20

// headSize is how much of a file tells what it is.
const headSize = 4096

// A container is a file around a kernel.
type container struct {
	format  Format        // of the file
	inner   Format        // of the kernel: ELF or Image
	method  expand.Method // empty when the kernel is as it is
	header  []byte        // of a bzImage
	content io.WriterTo   // writes the kernel
}

// look finds out what the size bytes of r are, from their beginning.
func look(r io.ReaderAt, size int64) (*container, error) {
	head, err := readHead(r, size)
	if err != nil {
		return nil, err
	}
	switch {
	case bzimage.Detect(head):
		f, err := bzimage.Parse(r, size)
		if err != nil {
			return nil, err
		}
		if !f.Is64 {
			return nil, errors.New("a bzImage of a 32-bit kernel: give a 64-bit one")
		}
		return &container{format: BzImage, inner: ELF, method: f.Method, header: f.Header, content: f}, nil
	case image.DetectZBoot(head):
		f, err := image.ParseZBoot(r, size)
		if err != nil {
			return nil, err
		}
		return &container{format: ZBoot, inner: Image, method: f.Method, content: f}, nil
	case image.Detect(head):
		return &container{format: Image, inner: Image, content: plain{r, size}}, nil
	case vmlinux.Detect(head):
		return &container{format: ELF, inner: ELF, content: plain{r, size}}, nil
	case expand.Detect(head) != "":
		return lookInside(r, size, expand.Detect(head))
	}
	return nil, identify(r, head, size)
}

// lookInside looks at a file that was compressed as a whole, such as the
// Image.gz of the arm64 build. What is no kernel is refused before all of it is
// expanded.
func lookInside(r io.ReaderAt, size int64, m expand.Method) (*container, error) {
	z, err := expand.NewReader(m, io.NewSectionReader(r, 0, size))
	if err != nil {
		return nil, fmt.Errorf("%s file: %w", m, err)
	}
	defer z.Close()
	head := make([]byte, headSize)
	n, err := io.ReadFull(z, head)
	head = head[:n]
	c := &container{method: m, content: compressed{r, size, m}}
	switch {
	case vmlinux.Detect(head):
		c.format, c.inner = ELF, ELF
	case image.Detect(head):
		c.format, c.inner = Image, Image
	case n == 0 && err != nil && !errors.Is(err, io.EOF):
		return nil, fmt.Errorf("%s file: %w", m, err)
	default:
		inner := identify(bytes.NewReader(head), head, int64(n))
		return nil, &NotKernelError{Is: fmt.Sprintf("%s-compressed data that holds %s", m, inner.Is), Instead: inner.Instead}
	}
	return c, nil
}

func readHead(r io.ReaderAt, size int64) ([]byte, error) {
	head := make([]byte, min(size, headSize))
	if n, err := r.ReadAt(head, 0); n < len(head) {
		return nil, fmt.Errorf("read: %w", err)
	}
	return head, nil
}

// plain is data that nothing is wrapped around.
type plain struct {
	r    io.ReaderAt
	size int64
}

func (p plain) WriteTo(w io.Writer) (int64, error) {
	return io.Copy(w, io.NewSectionReader(p.r, 0, p.size))
}

// compressed is data that was compressed as a whole.
type compressed struct {
	r    io.ReaderAt
	size int64
	m    expand.Method
}

func (c compressed) WriteTo(w io.Writer) (int64, error) {
	return expand.Copy(w, c.m, io.NewSectionReader(c.r, 0, c.size), maxExpanded)
}
