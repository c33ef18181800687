// Package initramfs holds the base image of every guest: PID 1 with a small
// user land, one per architecture, made by `make build` before this package
// is compiled.
package initramfs

import (
	"bytes"
	"embed"
	"fmt"
	"io"
	"slices"
	"sync"

	"github.com/klauspost/compress/zstd"
	"github.com/u-root/u-root/pkg/cpio"
)

//go:generate go run ./build -o images

//go:embed images
var images embed.FS

// Arches are the architectures that there are images for, by GOARCH's names.
var Arches = []string{"amd64", "arm64"}

// FileName is the name of an architecture's image in the directory images.
func FileName(arch string) string { return arch + ".cpio.zst" }

// maxImage bounds what an image expands to.
const maxImage = 64 << 20

type base struct {
	once sync.Once
	cpio []byte
	err  error
}

var bases = map[string]*base{"amd64": {}, "arm64": {}}

// Base gives the image for arch as an uncompressed cpio archive, for several
// archives make one initrd and the kernel unpacks a plain one fastest. The
// bytes are shared: they must not be changed. The error says what to do when
// this program was built without images.
func Base(arch string) ([]byte, error) {
	b := bases[arch]
	if b == nil {
		return nil, fmt.Errorf("no initramfs for architecture %q: there are %q", arch, slices.Sorted(slices.Values(Arches)))
	}
	b.once.Do(func() { b.cpio, b.err = load(arch) })
	return b.cpio, b.err
}

// Init gives PID 1 alone, for a guest whose user land is not ours.
func Init(arch string) ([]byte, error) {
	b, err := Base(arch)
	if err != nil {
		return nil, err
	}
	r := cpio.Newc.Reader(bytes.NewReader(b))
	for {
		rec, err := r.ReadRecord()
		if err != nil {
			return nil, fmt.Errorf("initramfs for %s has no init: %w", arch, err)
		}
		if rec.Name == "init" {
			return io.ReadAll(io.NewSectionReader(rec, 0, int64(rec.FileSize)))
		}
	}
}

func load(arch string) ([]byte, error) {
	packed, err := images.ReadFile("images/" + FileName(arch))
	if err != nil {
		return nil, fmt.Errorf("this warder was built without the guest's initramfs for %s: run make build", arch)
	}
	z, err := zstd.NewReader(bytes.NewReader(packed), zstd.WithDecoderMaxMemory(maxImage))
	if err != nil {
		return nil, err
	}
	defer z.Close()
	b, err := io.ReadAll(z)
	if err != nil {
		return nil, fmt.Errorf("initramfs for %s: %w", arch, err)
	}
	return b, nil
}
