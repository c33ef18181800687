// Package initrd makes the initramfs of the benchmarks' guests.
package initrd

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"fmt"

	"github.com/u-root/u-root/pkg/cpio"
	"golang.org/x/sys/unix"
)

// Mark is what /init of [First] writes to its console, one byte that no kernel
// and no firmware prints.
const Mark = '\x05'

// First is an initramfs whose /init is a dozen instructions that need nothing
// but the kernel: write Mark to standard output, wait for ever.
func First(arch string) ([]byte, error) {
	program, err := first(arch)
	if err != nil {
		return nil, err
	}
	return archive(file{"init", program})
}

// A file of an archive is a directory if it has no data.
type file struct {
	name string
	data []byte
}

func archive(files ...file) ([]byte, error) {
	var b bytes.Buffer
	w := cpio.Newc.Writer(&b)
	for i, f := range files {
		rec := cpio.Record{Info: cpio.Info{Ino: uint64(i + 1), Name: f.name, NLink: 1, Mode: unix.S_IFDIR | 0o755}}
		if f.data != nil {
			rec.ReaderAt = bytes.NewReader(f.data)
			rec.Mode, rec.FileSize = unix.S_IFREG|0o755, uint64(len(f.data))
		}
		if err := w.WriteRecord(rec); err != nil {
			return nil, err
		}
	}
	if err := cpio.WriteTrailer(w); err != nil {
		return nil, err
	}
	b.Write(make([]byte, -b.Len()&3)) // the next one begins at a multiple of 4
	return b.Bytes(), nil
}

// code is what First's /init does. The byte that it writes follows it.
var code = map[string]struct {
	machine elf.Machine
	text    []byte
}{
	"amd64": {elf.EM_X86_64, []byte{
		0xb8, 1, 0, 0, 0, // mov $SYS_write, %eax
		0xbf, 1, 0, 0, 0, // mov $1, %edi
		0x48, 0x8d, 0x35, 16, 0, 0, 0, // lea Mark(%rip), %rsi
		0xba, 1, 0, 0, 0, // mov $1, %edx
		0x0f, 0x05, // syscall
		0xb8, 34, 0, 0, 0, // 1: mov $SYS_pause, %eax
		0x0f, 0x05, // syscall
		0xeb, 0xf7, // jmp 1b
	}},
	"arm64": {elf.EM_AARCH64, words(
		0xd2800808, // mov x8, #SYS_write
		0xd2800020, // mov x0, #1
		0x10000121, // adr x1, Mark
		0xd2800022, // mov x2, #1
		0xd4000001, // svc #0
		0xd2800928, // 1: mov x8, #SYS_ppoll
		0xd2800000, // mov x0, #0: no descriptors
		0xd2800001, // mov x1, #0
		0xd2800002, // mov x2, #0: no end
		0xd4000001, // svc #0
		0x17fffffb, // b 1b
	)},
}

func words(w ...uint32) (b []byte) {
	for _, v := range w {
		b = binary.LittleEndian.AppendUint32(b, v)
	}
	return b
}

// first is First's /init: an ELF file with one segment, which is the file.
func first(arch string) ([]byte, error) {
	c, ok := code[arch]
	if !ok {
		return nil, fmt.Errorf("no first instructions for architecture %q", arch)
	}
	const (
		base    = 0x400000
		headers = 64 + 56 // of the file, of the one segment
	)
	size := uint64(headers + len(c.text) + 1)
	h := elf.Header64{
		Ident: [elf.EI_NIDENT]byte{0x7f, 'E', 'L', 'F', byte(elf.ELFCLASS64), byte(elf.ELFDATA2LSB), byte(elf.EV_CURRENT)},
		Type:  uint16(elf.ET_EXEC), Machine: uint16(c.machine), Version: uint32(elf.EV_CURRENT),
		Entry: base + headers, Phoff: 64, Ehsize: 64, Phentsize: 56, Phnum: 1,
	}
	p := elf.Prog64{
		Type: uint32(elf.PT_LOAD), Flags: uint32(elf.PF_R | elf.PF_X),
		Vaddr: base, Paddr: base, Filesz: size, Memsz: size, Align: 0x1000,
	}
	var b bytes.Buffer
	for _, part := range []any{h, p, c.text, []byte{Mark}} {
		if err := binary.Write(&b, binary.LittleEndian, part); err != nil {
			return nil, err
		}
	}
	if uint64(b.Len()) != size {
		return nil, fmt.Errorf("first instructions: %d bytes, not %d", b.Len(), size)
	}
	return b.Bytes(), nil
}
