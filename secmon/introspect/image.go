package introspect

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"

	"warder/boot"
)

// ErrFormat is the error for bytes that are neither an ELF vmlinux nor an
// arm64 Image.
var ErrFormat = errors.New("not an ELF vmlinux and not an arm64 Image")

// image is a kernel as the file holds it, addressed by link address.
type image struct {
	arch string // "amd64" or "arm64"
	// segments in which the kernel's tables may lie.
	segments []segment
	// flat says that link addresses are not known from the file's headers: an
	// arm64 Image is one block whose first byte is the symbol _text.
	flat bool
	// btf is the content of the .BTF section where the file has sections.
	btf []byte
}

type segment struct {
	addr uint64
	data []byte
}

// arm64 Image header: Documentation/arch/arm64/booting.rst, "ARM\x64" at 56.
const (
	arm64HeaderSize  = 64
	arm64MagicOffset = 56
	arm64Magic       = "ARM\x64"
)

func openImage(kernel []byte) (*image, error) {
	switch {
	case bytes.HasPrefix(kernel, []byte(elf.ELFMAG)):
		return openELF(kernel)
	case len(kernel) >= arm64HeaderSize && string(kernel[arm64MagicOffset:arm64MagicOffset+4]) == arm64Magic:
		return &image{arch: "arm64", flat: true, segments: []segment{{0, kernel}}}, nil
	}
	return nil, fmt.Errorf("%w (first bytes % x): unpack compressed kernels first", ErrFormat, kernel[:min(8, len(kernel))])
}

func openELF(kernel []byte) (*image, error) {
	f, err := elf.NewFile(bytes.NewReader(kernel))
	if err != nil {
		return nil, fmt.Errorf("vmlinux: %w", err)
	}
	im := &image{}
	switch {
	case f.Machine == elf.EM_X86_64 && f.Class == elf.ELFCLASS64:
		im.arch = "amd64"
	case f.Machine == elf.EM_AARCH64 && f.Class == elf.ELFCLASS64:
		im.arch = "arm64"
	default:
		return nil, fmt.Errorf("vmlinux: %v %v kernels are not supported", f.Class, f.Machine)
	}
	for _, p := range f.Progs {
		if p.Type != elf.PT_LOAD || p.Filesz == 0 {
			continue
		}
		end := p.Off + p.Filesz
		if end < p.Off || end > uint64(len(kernel)) {
			return nil, fmt.Errorf("vmlinux: segment at %#x reaches beyond the file", p.Off)
		}
		im.segments = append(im.segments, segment{p.Vaddr, kernel[p.Off:end:end]})
	}
	if len(im.segments) == 0 {
		return nil, errors.New("vmlinux: no loadable segment")
	}
	if s := f.Section(".BTF"); s != nil && s.Type == elf.SHT_PROGBITS {
		end := s.Offset + s.Size
		if end >= s.Offset && end <= uint64(len(kernel)) {
			im.btf = kernel[s.Offset:end:end]
		}
	}
	return im, nil
}

// amd64 kernels are linked at __START_KERNEL_map plus the physical address at
// which they are loaded (Documentation/arch/x86/x86_64/mm.rst).
const startKernelMap = 0xffffffff80000000

func bootImage(k *boot.Kernel) *image {
	im := &image{arch: k.Arch, flat: k.Arch == "arm64"}
	for _, s := range k.Segments {
		addr := s.Addr + startKernelMap
		if im.flat {
			addr = 0 // one segment, which starts with _text
		}
		im.segments = append(im.segments, segment{addr, s.Data})
	}
	return im
}

// bytes gives the n bytes at a link address, nil where the file has none.
func (im *image) bytes(addr, n uint64) []byte {
	for _, s := range im.segments {
		if off := addr - s.addr; addr >= s.addr && off <= uint64(len(s.data)) && n <= uint64(len(s.data))-off {
			return s.data[off : off+n : off+n]
		}
	}
	return nil
}

var le = binary.LittleEndian
