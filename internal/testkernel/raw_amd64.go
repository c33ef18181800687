package testkernel

import (
	"debug/elf"
)

// RawBase is where the code of a raw kernel is loaded, as Linux' is.
const RawBase = 0x100_0000

// Raw is code as an ELF kernel that is entered in long mode at its first byte.
func Raw(code []byte) []byte {
	const headers = 64 + 56
	return Concat(
		elf.Header64{
			Ident: [16]byte{0x7f, 'E', 'L', 'F', byte(elf.ELFCLASS64), byte(elf.ELFDATA2LSB), byte(elf.EV_CURRENT)},
			Type:  uint16(elf.ET_EXEC), Machine: uint16(elf.EM_X86_64), Version: uint32(elf.EV_CURRENT),
			Entry: RawBase, Phoff: 64, Ehsize: 64, Phentsize: 56, Phnum: 1,
		},
		elf.Prog64{
			Type: uint32(elf.PT_LOAD), Flags: uint32(elf.PF_R | elf.PF_X), Off: headers,
			Vaddr: RawBase, Paddr: RawBase, Filesz: uint64(len(code)), Memsz: uint64(len(code)), Align: 1,
		},
		code,
	)
}
