package rootfs

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/klauspost/compress/zstd"
)

// A Progress is told how far work is: done of total units, a total of 0 being of
// unknown length.
type Progress func(step string, done, total int64, unit string)

// unpack lays all layers of an image over one another. Each has to be what the
// configuration says.
func (b *builder) unpack(ctx context.Context, c *content, progress Progress) error {
	// Beside the files there are headers, and what fills records up.
	left := 2*b.most + 64<<20
	var done int64
	for i, s := range c.layers {
		read := func(n int) error {
			done += int64(n)
			progress("pull layers", done>>20, c.size>>20, "MiB")
			return ctx.Err()
		}
		used, err := b.unpackLayer(ctx, s, c.config.RootFS.DiffIDs[i], left, read)
		if err != nil {
			return fmt.Errorf("layer %d: %w", i+1, err)
		}
		left -= used
	}
	return nil
}

// unpackLayer lays one layer over what there is and gives how long it was.
func (b *builder) unpackLayer(ctx context.Context, s source, want v1.Hash, most int64, read func(int) error) (int64, error) {
	r, err := s.open()
	if err != nil {
		return 0, err
	}
	defer r.Close()
	plain, err := decompress(&watched{r, read})
	if err != nil {
		return 0, err
	}
	defer plain.Close()
	sum := sha256.New()
	bounded := &bounded{plain, most}
	all := io.TeeReader(bounded, sum)
	if err := b.layer(ctx, all); err != nil {
		return 0, err
	}
	if _, err := io.Copy(io.Discard, all); err != nil { // behind the archive's end
		return 0, err
	}
	if got := hex.EncodeToString(sum.Sum(nil)); want.Algorithm != "sha256" || got != want.Hex {
		return 0, fmt.Errorf("it is not what the image's configuration says: sha256:%s in place of %s", got, want)
	}
	return most - bounded.left, nil
}

// maxWindow is how far a compressed layer may refer back, in bytes: it is in memory.
const maxWindow = 128 << 20

// decompress reads what may be compressed, by what it begins with.
func decompress(r io.Reader) (io.ReadCloser, error) {
	in := bufio.NewReaderSize(r, 64<<10)
	head, err := in.Peek(4)
	if err != nil && err != io.EOF {
		return nil, err
	}
	switch {
	case bytes.HasPrefix(head, []byte{0x1f, 0x8b}):
		return gzip.NewReader(in)
	case bytes.Equal(head, []byte{0x28, 0xb5, 0x2f, 0xfd}):
		z, err := zstd.NewReader(in, zstd.WithDecoderMaxWindow(maxWindow), zstd.WithDecoderConcurrency(1))
		if err != nil {
			return nil, err
		}
		return z.IOReadCloser(), nil
	}
	return io.NopCloser(in), nil
}

// watched tells of what is read.
type watched struct {
	io.Reader
	read func(int) error
}

func (w *watched) Read(p []byte) (int, error) {
	n, err := w.Reader.Read(p)
	if stop := w.read(n); stop != nil {
		return n, stop
	}
	return n, err
}

// bounded fails when there is more than it may give.
type bounded struct {
	io.Reader
	left int64
}

func (b *bounded) Read(p []byte) (int, error) {
	n, err := b.Reader.Read(p)
	if b.left -= int64(n); b.left < 0 {
		return 0, fmt.Errorf("%w: it does not end where an image of its size would", errTooLarge)
	}
	return n, err
}
