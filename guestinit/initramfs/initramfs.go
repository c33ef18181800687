// Package initramfs holds the base image of every guest: PID 1 with a small
// user land, one per architecture, made by `make build` before this package
// is compiled. Beside it is what a supervisor's VM has in place of the user land.
package initramfs

import (
	"bytes"
	"fmt"
	"io"
	"runtime"
	"sync"

	"github.com/klauspost/compress/zstd"
	"github.com/u-root/u-root/pkg/cpio"
)

//go:generate go run ./build -o images

// Arches are the architectures that images are made for, by GOARCH's names.
var Arches = []string{"amd64", "arm64"}

// FileName is the name of an architecture's image in the directory images.
func FileName(arch string) string { return arch + ".cpio.zst" }

// maxImage bounds what an image expands to.
const maxImage = 64 << 20

// Base gives the image of this program's architecture, the only one that it holds, as
// an uncompressed cpio archive, for several archives make one initrd and the kernel
// unpacks a plain one fastest. The bytes are shared: they must not be changed. The
// error says what to do when this program was built without images.
var Base = sync.OnceValues(func() ([]byte, error) { return load(FileName(runtime.GOARCH)) })

// Init gives PID 1 alone, for a guest whose user land is not ours.
func Init() ([]byte, error) {
	b, err := Base()
	if err != nil {
		return nil, err
	}
	return InitOf(b)
}

// InitOf gives PID 1 out of an image.
func InitOf(image []byte) ([]byte, error) {
	r := cpio.Newc.Reader(bytes.NewReader(image))
	for {
		rec, err := r.ReadRecord()
		if err != nil {
			return nil, fmt.Errorf("initramfs has no init: %w", err)
		}
		if rec.Name == "init" {
			return io.ReadAll(io.NewSectionReader(rec, 0, int64(rec.FileSize)))
		}
	}
}

// load reads a file out of this program.
func load(name string) ([]byte, error) {
	packed, err := images.ReadFile("images/" + name)
	if err != nil {
		return nil, fmt.Errorf("this warder was built without the guest's initramfs for %s: run make build", runtime.GOARCH)
	}
	return Unpack(packed)
}

// Unpack expands what a file in the directory images has.
func Unpack(packed []byte) ([]byte, error) {
	z, err := zstd.NewReader(bytes.NewReader(packed), zstd.WithDecoderMaxMemory(maxImage))
	if err != nil {
		return nil, err
	}
	defer z.Close()
	b, err := io.ReadAll(z)
	if err != nil {
		return nil, fmt.Errorf("initramfs: %w", err)
	}
	return b, nil
}
