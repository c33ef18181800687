package linuxamd64

import (
	"encoding/binary"
	"errors"

	"warder/boot"
)

// PVH: the kernel's 32-bit entry with EBX = hvm_start_info
// (xen/include/public/arch-x86/hvm/start_info.h, version 1).
const (
	startInfoMagic   = 0x336ec578
	startInfoVersion = 1
	startInfoSize    = 56
	modlistSize      = 32
)

// startInfo writes hvm_start_info, its list of modules and its memory map.
func startInfo(cfg *Config, memory []mapEntry, initrd boot.Range) ([]byte, error) {
	if initrd.End() > 1<<32 {
		// Linux keeps 32 bits of a module's address.
		return nil, errors.New("the initramfs does not fit below 4 GiB, where the PVH protocol wants it")
	}
	const modlist, memmap = startInfoAddr + startInfoSize, startInfoAddr + startInfoSize + modlistSize
	var modules uint32
	if initrd.Size > 0 {
		modules = 1
	}
	le := binary.LittleEndian
	var b []byte
	b = le.AppendUint32(b, startInfoMagic)
	b = le.AppendUint32(b, startInfoVersion)
	b = le.AppendUint32(b, 0) // flags
	b = le.AppendUint32(b, modules)
	b = le.AppendUint64(b, modlist)
	b = le.AppendUint64(b, cmdlineAddr)
	b = le.AppendUint64(b, cfg.Machine.Base)
	b = le.AppendUint64(b, memmap)
	b = le.AppendUint32(b, uint32(len(memory)))
	b = le.AppendUint32(b, 0)
	for _, v := range []uint64{initrd.Base, initrd.Size, 0, 0} {
		b = le.AppendUint64(b, v)
	}
	for _, e := range memory {
		b = le.AppendUint64(b, e.Base)
		b = le.AppendUint64(b, e.Size)
		b = le.AppendUint32(b, e.kind)
		b = le.AppendUint32(b, 0)
	}
	return b, nil
}
