package testkernel

import "encoding/binary"

// RawBase is where the code of a raw kernel is loaded: at the start of RAM, behind
// its header.
const RawBase = 0x4000_0000 + rawHeader

const rawHeader = 64

// Raw is code as an arm64 Image (Documentation/arch/arm64/booting.rst).
func Raw(code []byte) []byte {
	b := make([]byte, rawHeader, rawHeader+len(code))
	binary.LittleEndian.PutUint32(b[0:], 0x1400_0010)                  // b code
	binary.LittleEndian.PutUint64(b[16:], uint64(rawHeader+len(code))) // image_size
	binary.LittleEndian.PutUint64(b[24:], 1<<1|1<<3)                   // 4K pages, anywhere in RAM
	copy(b[56:], "ARM\x64")
	return append(b, code...)
}
