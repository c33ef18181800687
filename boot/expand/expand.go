// Package expand undoes the compressions that Linux kernels, modules and
// packages come in.
package expand

import (
	"bytes"
	"compress/bzip2"
	"compress/gzip"
	"errors"
	"fmt"
	"io"

	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
	"github.com/ulikunitz/xz/lzma"

	"warder/boot/xz"
)

// A Method is a compression.
type Method string

// The methods of the kernel's own build (lib/decompress.c).
const (
	Gzip  Method = "gzip"
	XZ    Method = "xz"
	Zstd  Method = "zstd"
	LZ4   Method = "lz4"
	LZMA  Method = "lzma"
	Bzip2 Method = "bzip2"
	LZO   Method = "lzo" // recognised, not expanded
)

// ErrMethod is returned for a compression that this package cannot undo.
var ErrMethod = errors.New("unsupported compression")

// maxWindow is the largest history that a stream may ask for: what the kernel's
// build uses with zstd -22. Readers allocate it before they have read anything.
const maxWindow = 128 << 20

var magics = []struct {
	method Method
	magic  string
}{
	{Gzip, "\x1f\x8b\x08"},
	{XZ, "\xfd7zXZ\x00"},
	{Zstd, "\x28\xb5\x2f\xfd"},
	{LZ4, "\x02\x21\x4c\x18"}, // legacy frame, which is what the kernel's build writes
	{LZ4, "\x04\x22\x4d\x18"},
	{LZMA, "\x5d\x00\x00"},
	{Bzip2, "BZh"},
	{LZO, "\x89LZO\x00\r\n\x1a\n"},
}

// Detect tells by its first bytes how data is compressed; "" when it is not.
func Detect(head []byte) Method {
	for _, m := range magics {
		if bytes.HasPrefix(head, []byte(m.magic)) {
			return m.method
		}
	}
	return ""
}

// NewReader returns a reader of the first stream in r, expanded. Bytes that
// follow that stream may give an error at its end: the kernel's build appends
// the expanded length to most payloads, so a reader that knows the length should
// stop there.
func NewReader(m Method, r io.Reader) (io.ReadCloser, error) {
	switch m {
	case Gzip:
		z, err := gzip.NewReader(r)
		if err != nil {
			return nil, err
		}
		z.Multistream(false)
		return z, nil
	case XZ:
		z, err := xz.NewReader(r)
		return io.NopCloser(z), err
	case Zstd:
		z, err := zstd.NewReader(r, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true),
			zstd.WithDecoderMaxWindow(maxWindow))
		if err != nil {
			return nil, err
		}
		return z.IOReadCloser(), nil
	case LZ4:
		return io.NopCloser(lz4.NewReader(r)), nil
	case LZMA:
		z, err := lzma.ReaderConfig{DictCap: maxWindow}.NewReader(r)
		return io.NopCloser(z), err
	case Bzip2:
		return io.NopCloser(bzip2.NewReader(r)), nil
	}
	return nil, fmt.Errorf("%w: %s", ErrMethod, m)
}

// ErrTooLarge is returned by Copy when the data grows beyond its limit.
var ErrTooLarge = errors.New("expands to more than the allowed size")

// Copy writes the expanded first stream of r to w and returns its length. It
// stops with ErrTooLarge behind limit bytes.
func Copy(w io.Writer, m Method, r io.Reader, limit int64) (int64, error) {
	z, err := NewReader(m, r)
	if err != nil {
		return 0, fmt.Errorf("%s: %w", m, err)
	}
	defer z.Close()
	n, err := io.Copy(w, io.LimitReader(z, limit+1))
	if n > limit {
		return n, fmt.Errorf("%s: %w of %d bytes", m, ErrTooLarge, limit)
	}
	if err != nil {
		return n, fmt.Errorf("%s: after %d bytes: %w", m, n, err)
	}
	return n, nil
}
