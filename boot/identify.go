package boot

import (
	"bytes"
	"encoding/binary"
	"io"
	"io/fs"
	"unicode/utf8"
)

// A NotKernelError says what a file is that is no kernel.
type NotKernelError struct {
	Is      string // "an empty file"
	Instead string // what to give or do instead
}

func (e *NotKernelError) Error() string {
	return "no kernel but " + e.Is + "; " + e.Instead
}

const (
	giveKernel = `give a bzImage, an x86-64 vmlinux or an arm64 Image ("warder kernel pull" gets one)`
	givePull   = `give it to "warder kernel pull --deb FILE"`
)

func notRegular(m fs.FileMode) *NotKernelError {
	is := "no regular file"
	switch {
	case m.IsDir():
		is = "a directory"
	case m&fs.ModeDevice != 0:
		is = "a device"
	case m&fs.ModeNamedPipe != 0:
		is = "a pipe"
	case m&fs.ModeSocket != 0:
		is = "a socket"
	}
	return &NotKernelError{Is: is, Instead: giveKernel}
}

// signatures are what people give for a kernel, by their magic.
var signatures = []struct {
	offset      int64
	magic       string
	is, instead string
}{
	{0, "#!", "a script", giveKernel},
	{0, "!<arch>\ndebian-binary", "a Debian package", givePull},
	{0, "!<arch>\n", "a static library (ar archive)", giveKernel},
	{0, "\xed\xab\xee\xdb", "an RPM package", "unpack it and give the vmlinuz inside"},
	{0, "070701", "a cpio archive, such as an initramfs", giveKernel + ", this file is for the initramfs"},
	{0, "070702", "a cpio archive, such as an initramfs", giveKernel + ", this file is for the initramfs"},
	{257, "ustar", "a tar archive", "unpack it and give the kernel inside"},
	{0, "PK\x03\x04", "a zip archive", "unpack it and give the kernel inside"},
	{0, "\xd0\x0d\xfe\xed", "a flattened device tree or U-Boot FIT image", giveKernel},
	{0, "\x27\x05\x19\x56", "a U-Boot legacy image (uImage)", "give the kernel that it was made from"},
	{0, "QFI\xfb", "a disk image (qcow2)", giveKernel},
	{0, "KDMV", "a disk image (VMDK)", giveKernel},
	{0, "vhdxfile", "a disk image (VHDX)", giveKernel},
	{512, "EFI PART", "a disk image with a GPT", giveKernel},
	{0, "hsqs", "a squashfs file system", giveKernel},
	{1024, "\xe2\xe1\xf5\xe0", "an EROFS file system", giveKernel},
	{1080, "\x53\xef", "an ext2, ext3 or ext4 file system", giveKernel},
	{0x8001, "CD001", "an ISO 9660 image", "mount it and give the kernel inside"},
}

// zeroScan bounds how far a file that begins with zeros is read.
const zeroScan = 64 << 20

// identify says what the size bytes of r are, which begin with head.
func identify(r io.ReaderAt, head []byte, size int64) *NotKernelError {
	if size == 0 {
		return &NotKernelError{Is: "an empty file", Instead: giveKernel}
	}
	for _, s := range signatures {
		buf := make([]byte, len(s.magic))
		if _, err := r.ReadAt(buf, s.offset); (err == nil || err == io.EOF) && string(buf) == s.magic {
			return &NotKernelError{Is: s.is, Instead: s.instead}
		}
	}
	is := "data of an unknown kind"
	switch {
	case bytes.HasPrefix(head, []byte("MZ")):
		return identifyPE(head)
	case allZero(head) && zeros(r, min(size, zeroScan)):
		is = "a file full of zeros"
	case allZero(head):
		is = "data that begins with zeros, perhaps a disk image"
	case len(head) >= 512 && head[510] == 0x55 && head[511] == 0xaa:
		is = "a disk image with a boot sector"
	case isText(head):
		is = "a text file"
	}
	return &NotKernelError{Is: is, Instead: giveKernel}
}

// identifyPE looks into a file with a DOS header, which may be an EFI
// application (PE format, section "COFF file header").
func identifyPE(head []byte) *NotKernelError {
	le := binary.LittleEndian
	if len(head) < 64 {
		return &NotKernelError{Is: "a DOS program", Instead: giveKernel}
	}
	pe := uint64(le.Uint32(head[60:]))
	if pe+96 > uint64(len(head)) || string(head[pe:pe+4]) != "PE\x00\x00" {
		return &NotKernelError{Is: "a DOS program", Instead: giveKernel}
	}
	const efiFirst, efiLast = 10, 13 // IMAGE_SUBSYSTEM_EFI_APPLICATION to _EFI_ROM
	if sub := le.Uint16(head[pe+92:]); sub < efiFirst || sub > efiLast {
		return &NotKernelError{Is: "a Windows program", Instead: giveKernel}
	}
	if bytes.Contains(head, []byte(".linux\x00")) {
		return &NotKernelError{Is: "a unified kernel image (EFI application)",
			Instead: "give the kernel inside: objcopy -O binary --only-section=.linux FILE vmlinuz"}
	}
	return &NotKernelError{Is: "an EFI application (PE)", Instead: giveKernel}
}

func allZero(p []byte) bool { return len(bytes.Trim(p, "\x00")) == 0 }

// zeros tells whether the first size bytes of r are zero.
func zeros(r io.ReaderAt, size int64) bool {
	buf := make([]byte, 64<<10)
	s := io.NewSectionReader(r, 0, size)
	for {
		n, err := s.Read(buf)
		if !allZero(buf[:n]) {
			return false
		}
		if err != nil {
			return err == io.EOF
		}
	}
}

func isText(p []byte) bool {
	p = p[:min(len(p), 512)]
	for i := range 4 { // the cut may be inside a character
		if i < len(p) && utf8.Valid(p[:len(p)-i]) {
			return bytes.IndexFunc(p[:len(p)-i], func(c rune) bool {
				return c < ' ' && c != '\n' && c != '\r' && c != '\t' && c != '\f' && c != 0x1b
			}) < 0
		}
	}
	return false
}
