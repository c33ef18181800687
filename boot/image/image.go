// Package image reads arm64 kernel images
// (Documentation/arch/arm64/booting.rst, section 4).
package image

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"warder/boot/expand"
)

const (
	headerSize = 64
	magic      = "ARM\x64"
	offMagic   = 56

	flagBigEndian = 1 << 0

	// maxSize bounds an image in the file and in memory; distribution kernels have 60 MiB.
	maxSize = 512 << 20

	// legacyOffset is the text offset of kernels before 3.17, which did not say
	// what they occupy.
	legacyOffset = 0x80000
	legacySize   = 64 << 20
)

// ErrFormat is returned for a file that is no arm64 image.
var ErrFormat = errors.New("no arm64 Image")

// A File is an opened image.
type File struct {
	// TextOffset is where Data goes, in bytes from a 2 MiB boundary.
	TextOffset uint64
	// Size is the memory in bytes from there that has to be free for the kernel.
	Size uint64
	Data []byte
}

// Detect tells whether head, 64 bytes or more, is the beginning of an image.
func Detect(head []byte) bool {
	return len(head) >= headerSize && string(head[offMagic:offMagic+4]) == magic
}

// Parse reads the image in the size bytes of r into memory that place gives:
// the n bytes for what belongs offset bytes behind a 2 MiB boundary.
func Parse(r io.ReaderAt, size int64, place func(offset, n uint64) []byte) (*File, error) {
	var h struct {
		Code       [2]uint32
		TextOffset uint64
		Size       uint64
		Flags      uint64
		_          [3]uint64
		Magic      [4]byte
		PEHeader   uint32
	}
	buf := make([]byte, headerSize)
	if n, err := r.ReadAt(buf, 0); n < len(buf) {
		return nil, fmt.Errorf("%w: %w", ErrFormat, err)
	}
	if !Detect(buf) {
		return nil, ErrFormat
	}
	if _, err := binary.Decode(buf, binary.LittleEndian, &h); err != nil {
		return nil, err
	}
	if h.Flags&flagBigEndian != 0 {
		return nil, errors.New("a big-endian arm64 kernel: give a little-endian one")
	}
	if size > maxSize || h.Size > maxSize {
		return nil, fmt.Errorf("arm64 Image of %d bytes that wants %d bytes of memory; at most %d are accepted", size, h.Size, maxSize)
	}
	f := &File{TextOffset: h.TextOffset, Size: max(h.Size, uint64(size))}
	if h.Size == 0 {
		f.TextOffset, f.Size = legacyOffset, max(legacySize, uint64(size))
	}
	if f.TextOffset >= 2<<20 || f.TextOffset%4096 != 0 {
		return nil, fmt.Errorf("arm64 Image with a text offset of %#x: has to be a multiple of 4096 below 2 MiB", f.TextOffset)
	}
	f.Data = place(f.TextOffset, uint64(size))
	if n, err := r.ReadAt(f.Data, 0); n < len(f.Data) {
		return nil, fmt.Errorf("arm64 Image: %w", err)
	}
	return f, nil
}

// A ZBoot is an EFI application that carries a compressed image
// (drivers/firmware/efi/libstub/zboot-header.S).
type ZBoot struct {
	Method  expand.Method
	payload *io.SectionReader
}

// DetectZBoot tells whether head, 64 bytes or more, is the beginning of such an
// application.
func DetectZBoot(head []byte) bool {
	return len(head) >= headerSize && string(head[:2]) == "MZ" && string(head[4:8]) == "zimg"
}

// ParseZBoot reads the headers of the size bytes in r.
func ParseZBoot(r io.ReaderAt, size int64) (*ZBoot, error) {
	head := make([]byte, headerSize)
	if n, err := r.ReadAt(head, 0); n < len(head) {
		return nil, fmt.Errorf("%w: %w", ErrFormat, err)
	}
	if !DetectZBoot(head) {
		return nil, ErrFormat
	}
	off, n := int64(binary.LittleEndian.Uint32(head[8:])), int64(binary.LittleEndian.Uint32(head[12:]))
	if n == 0 || off > size || n > size-off {
		return nil, fmt.Errorf("EFI zboot kernel is cut short: its image is the %d bytes from %d, the file has %d bytes", n, off, size)
	}
	name, _, _ := bytes.Cut(head[24:56], []byte{0})
	method, ok := methods[string(name)]
	if !ok {
		return nil, fmt.Errorf("EFI zboot kernel with compression %q: %w", name, expand.ErrMethod)
	}
	return &ZBoot{Method: method, payload: io.NewSectionReader(r, off, n)}, nil
}

// methods has the names that the kernel's build puts into the header (COMP_TYPE,
// drivers/firmware/efi/libstub/Makefile.zboot).
var methods = map[string]expand.Method{
	"gzip":   expand.Gzip,
	"lz4":    expand.LZ4,
	"lzma":   expand.LZMA,
	"xzkern": expand.XZ,
	"xz":     expand.XZ,
	"zstd":   expand.Zstd,
	"zstd22": expand.Zstd,
}

// WriteTo writes the image, expanded, to w.
func (z *ZBoot) WriteTo(w io.Writer) (int64, error) {
	r := io.NewSectionReader(z.payload, 0, z.payload.Size())
	n, err := expand.Copy(w, z.Method, r, maxSize)
	if err != nil {
		return n, fmt.Errorf("EFI zboot kernel: %w", err)
	}
	return n, nil
}
