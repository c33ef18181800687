// Package bzimage reads the container in which an x86 kernel is distributed
// (Documentation/arch/x86/boot.rst): a setup header and a compressed vmlinux.
package bzimage

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"warder/boot/expand"
)

// Offsets into the file, all of them part of the boot protocol.
const (
	HeaderOffset = 0x1f1 // of the setup header, in the file and in boot_params alike

	offSetupSects    = 0x1f1
	offBootFlag      = 0x1fe
	offJumpLength    = 0x201
	offMagic         = 0x202
	offVersion       = 0x206
	offKernelVersion = 0x20e
	offXLoadFlags    = 0x236
	offPayloadOffset = 0x248
	offPayloadLength = 0x24c

	headerEnd = 0x290 // end of the last field that any version of the protocol has

	bootFlag = 0xaa55
	magic    = "HdrS"

	minVersion  = 0x0208 // payload_offset and payload_length
	xlfKernel64 = 1 << 0
)

// maxExpanded bounds an expanded kernel; the largest seen with every driver
// built in is a quarter of it.
const maxExpanded = 512 << 20

// ErrFormat is returned for a file that is no bzImage.
var ErrFormat = errors.New("no bzImage")

// A File is an opened bzImage.
type File struct {
	Header   []byte        // setup header, to be copied into boot_params at HeaderOffset
	Protocol uint16        // version of the boot protocol, 0x020f for 2.15
	Version  string        // "6.12.117 (user@host) #1 SMP ..."; may be empty
	Is64     bool          // the kernel is one for 64 bits
	Method   expand.Method // of the payload; empty when it is not compressed

	payload *io.SectionReader
	// length is what the payload expands to according to the file, or -1.
	length int64
}

// Detect tells whether head, the first 0x206 bytes of a file or more, can be
// the beginning of a bzImage.
func Detect(head []byte) bool {
	return len(head) >= offVersion && binary.LittleEndian.Uint16(head[offBootFlag:]) == bootFlag &&
		string(head[offMagic:offMagic+4]) == magic
}

// Parse reads the headers of the size bytes in r.
func Parse(r io.ReaderAt, size int64) (*File, error) {
	head := make([]byte, headerEnd)
	if n, err := r.ReadAt(head, 0); n < offPayloadLength+4 {
		return nil, fmt.Errorf("%w: %w", ErrFormat, err)
	}
	if !Detect(head) {
		return nil, ErrFormat
	}
	f := &File{
		Protocol: binary.LittleEndian.Uint16(head[offVersion:]),
		Is64:     binary.LittleEndian.Uint16(head[offXLoadFlags:])&xlfKernel64 != 0,
	}
	if f.Protocol < minVersion {
		return nil, fmt.Errorf("bzImage of boot protocol %d.%02d: too old, its payload cannot be found (2.08, Linux 2.6.26, is the first)",
			f.Protocol>>8, f.Protocol&0xff)
	}
	end := min(offMagic+int(head[offJumpLength]), headerEnd)
	f.Header = head[HeaderOffset:end]
	f.Version = version(r, binary.LittleEndian.Uint16(head[offKernelVersion:]))

	sects := int64(head[offSetupSects])
	if sects == 0 {
		sects = 4 // "for backwards compatibility, if the setup_sects field contains 0, the real value is 4"
	}
	off := (sects+1)*512 + int64(binary.LittleEndian.Uint32(head[offPayloadOffset:]))
	n := int64(binary.LittleEndian.Uint32(head[offPayloadLength:]))
	if n < 16 || off > size || n > size-off {
		return nil, fmt.Errorf("bzImage is cut short: its kernel is the %d bytes from %d, the file has %d bytes", n, off, size)
	}
	f.payload = io.NewSectionReader(r, off, n)
	return f, f.method(n)
}

// method finds out how the payload of n bytes is compressed. Every compressed
// payload ends with its expanded length in 32 bits: gzip has it by itself, for
// the others the kernel's build appends it.
func (f *File) method(n int64) error {
	var head [16]byte
	if _, err := f.payload.ReadAt(head[:], 0); err != nil {
		return fmt.Errorf("bzImage payload: %w", err)
	}
	f.length = -1
	f.Method = expand.Detect(head[:])
	if f.Method == "" {
		return nil
	}
	var tail [4]byte
	if _, err := f.payload.ReadAt(tail[:], n-4); err != nil {
		return fmt.Errorf("bzImage payload: %w", err)
	}
	f.length = int64(binary.LittleEndian.Uint32(tail[:]))
	if f.length > maxExpanded {
		return fmt.Errorf("bzImage claims to expand to %d bytes; at most %d are accepted", f.length, maxExpanded)
	}
	return nil
}

// WriteTo writes the vmlinux, expanded, to w.
func (f *File) WriteTo(w io.Writer) (int64, error) {
	r := io.NewSectionReader(f.payload, 0, f.payload.Size())
	if f.Method == "" {
		return io.Copy(w, r)
	}
	z, err := expand.NewReader(f.Method, r)
	if err != nil {
		return 0, fmt.Errorf("bzImage payload: %w", err)
	}
	defer z.Close()
	// The word behind the stream makes some readers complain at its end, and the
	// kernel's own loader does not read beyond the length either.
	n, err := io.CopyN(w, z, f.length)
	if err != nil {
		return n, fmt.Errorf("bzImage payload (%s): after %d of %d bytes: %w", f.Method, n, f.length, err)
	}
	return n, nil
}

// version reads the string at offset 0x200 + ptr; a kernel without one has 0.
func version(r io.ReaderAt, ptr uint16) string {
	if ptr == 0 {
		return ""
	}
	var buf [256]byte
	n, _ := r.ReadAt(buf[:], int64(ptr)+0x200)
	s, _, ok := bytes.Cut(buf[:n], []byte{0})
	if !ok {
		return ""
	}
	for _, c := range s {
		if c < ' ' || c > '~' {
			return ""
		}
	}
	return string(s)
}
