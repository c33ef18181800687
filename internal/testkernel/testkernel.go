// Package testkernel makes files that are kernels to whoever reads their headers:
// a few hundred bytes in each of the formats that kernels come in.
package testkernel

import (
	"bytes"
	"compress/gzip"
	"debug/elf"
	"encoding/binary"
	"io"

	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
	"github.com/ulikunitz/xz"
	"github.com/ulikunitz/xz/lzma"

	"warder/boot/expand"
)

// What the kernels made here have in them.
const (
	Banner   = "Linux version 6.0.0-test (builder) #1 SMP"
	LoadAddr = 0x1000000 // of the ELF's one segment
	MemSize  = 0x3000    // of it
	Entry    = LoadAddr + 0x40
	PVHEntry = LoadAddr + 0x80
)

// ELF is a vmlinux for x86-64, with a PVH entry.
func ELF() []byte {
	const ehdr, phdr, text = 64, 56, 0x1000
	note := append([]byte{4, 0, 0, 0, 8, 0, 0, 0, 18, 0, 0, 0}, "Xen\x00"...)
	note = binary.LittleEndian.AppendUint64(note, PVHEntry)
	body := make([]byte, text)
	copy(body[0x200:], Banner+"\n")
	return Concat(
		elf.Header64{
			Ident: [16]byte{0x7f, 'E', 'L', 'F', byte(elf.ELFCLASS64), byte(elf.ELFDATA2LSB), 1},
			Type:  uint16(elf.ET_EXEC), Machine: uint16(elf.EM_X86_64), Version: 1,
			Entry: Entry, Phoff: ehdr, Ehsize: ehdr, Phentsize: phdr, Phnum: 2,
		},
		elf.Prog64{
			Type: uint32(elf.PT_LOAD), Off: ehdr + 2*phdr, Vaddr: 0xffffffff81000000, Paddr: LoadAddr,
			Filesz: text, Memsz: MemSize,
		},
		elf.Prog64{Type: uint32(elf.PT_NOTE), Off: ehdr + 2*phdr + text, Filesz: uint64(len(note)), Memsz: uint64(len(note))},
		body, note,
	)
}

// Image is an arm64 Image that wants twice its size of memory.
func Image() []byte {
	const size = 0x1000
	body := make([]byte, size-64)
	copy(body, Banner+"\n")
	return Concat(
		[2]uint32{0xd503201f, 0x14000010}, // nop; b past the header
		[3]uint64{0, 2 * size, 0b1010},    // 4 KiB pages, anywhere in memory
		[3]uint64{}, [4]byte([]byte("ARM\x64")), uint32(0),
		body,
	)
}

// BzImage wraps payload, which is compressed by method, or not at all when that
// is empty.
func BzImage(method expand.Method, payload []byte) []byte {
	const setup, protected = 5 * 512, 0x100
	packed := payload
	if method != "" {
		packed = Compress(method, payload)
		if method != expand.Gzip { // has its length by itself
			packed = binary.LittleEndian.AppendUint32(packed, uint32(len(payload)))
		}
	}
	b := make([]byte, setup+protected, setup+protected+len(packed))
	le := binary.LittleEndian
	b[0x1f1] = setup/512 - 1
	le.PutUint16(b[0x1fe:], 0xaa55)
	copy(b[0x200:], "\xeb\x66HdrS")
	le.PutUint16(b[0x206:], 0x020f)
	le.PutUint16(b[0x20e:], 0x300) // of the version, from 0x200
	le.PutUint16(b[0x236:], 1)     // 64 bits
	le.PutUint32(b[0x238:], 2047)  // length of the command line
	le.PutUint32(b[0x248:], protected)
	le.PutUint32(b[0x24c:], uint32(len(packed)))
	copy(b[0x500:], "6.0.0-test (builder) #1 SMP\x00")
	return append(b, packed...)
}

// ZBoot wraps payload as the kernel's build does it for EFI.
func ZBoot(method expand.Method, payload []byte) []byte {
	const stub = 0x200
	packed := Compress(method, payload)
	b := make([]byte, stub, stub+len(packed)+4)
	copy(b, "MZ\x00\x00zimg")
	binary.LittleEndian.PutUint32(b[8:], stub)
	binary.LittleEndian.PutUint32(b[12:], uint32(len(packed)))
	copy(b[24:], map[expand.Method]string{expand.Zstd: "zstd22", expand.XZ: "xzkern"}[method])
	if b[24] == 0 {
		copy(b[24:], method)
	}
	return binary.LittleEndian.AppendUint32(append(b, packed...), uint32(len(payload)))
}

// Methods are those that Compress knows.
var Methods = []expand.Method{expand.Gzip, expand.XZ, expand.Zstd, expand.LZ4, expand.LZMA}

// Compress compresses data as the kernel's build does it.
func Compress(method expand.Method, data []byte) []byte {
	var b bytes.Buffer
	w, err := compressor(method, &b)
	if err != nil {
		panic(err)
	}
	if _, err := w.Write(data); err != nil {
		panic(err)
	}
	if err := w.Close(); err != nil {
		panic(err)
	}
	return b.Bytes()
}

func compressor(method expand.Method, w io.Writer) (io.WriteCloser, error) {
	switch method {
	case expand.Gzip:
		return gzip.NewWriter(w), nil
	case expand.XZ:
		return xz.NewWriter(w)
	case expand.Zstd:
		return zstd.NewWriter(w)
	case expand.LZ4:
		z := lz4.NewWriter(w)
		return z, z.Apply(lz4.LegacyOption(true))
	case expand.LZMA:
		return lzma.NewWriter(w)
	}
	panic("testkernel: no compressor for " + method)
}

// Concat is the little-endian form of its arguments, one behind the other.
func Concat(values ...any) (b []byte) {
	for _, v := range values {
		var err error
		if b, err = binary.Append(b, binary.LittleEndian, v); err != nil {
			panic(err)
		}
	}
	return b
}
