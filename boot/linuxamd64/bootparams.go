package linuxamd64

import (
	"encoding/binary"
	"fmt"

	"warder/boot"
	"warder/boot/bzimage"
)

// struct boot_params, the "zero page" (Documentation/arch/x86/zero-page.rst),
// with the setup header inside (Documentation/arch/x86/boot.rst).
const (
	bootParamsSize = 4096

	offRSDP            = 0x070
	offExtRamdiskImage = 0x0c0
	offExtRamdiskSize  = 0x0c4
	offE820Entries     = 0x1e8
	offVidMode         = 0x1fa
	offBootFlag        = 0x1fe
	offHeader          = 0x202
	offVersion         = 0x206
	offTypeOfLoader    = 0x210
	offLoadFlags       = 0x211
	offRamdiskImage    = 0x218
	offRamdiskSize     = 0x21c
	offCmdLinePtr      = 0x228
	offKernelAlign     = 0x230
	offCmdlineSize     = 0x238
	offSetupData       = 0x250
	offE820Table       = 0x2d0

	e820Max  = 128
	e820Size = 20

	bootFlag       = 0xaa55
	headerMagic    = 0x53726448 // "HdrS"
	version215     = 0x020f
	vidModeNormal  = 0xffff
	loaderUnknown  = 0xff
	loadedHigh     = 1 << 0
	setupRNGSeed   = 9
	defaultCmdline = 2047 // COMMAND_LINE_SIZE of x86 without the final zero
)

// bootParams writes the zero page. The header of a kernel that came without one
// is what its bzImage would have had.
func bootParams(cfg *Config, e820 []mapEntry, initrd boot.Range) []byte {
	b := make([]byte, bootParamsSize)
	le := binary.LittleEndian
	if h := cfg.Kernel.SetupHeader; len(h) > 0 {
		copy(b[bzimage.HeaderOffset:offE820Table], h)
	} else {
		le.PutUint16(b[offBootFlag:], bootFlag)
		le.PutUint32(b[offHeader:], headerMagic)
		le.PutUint16(b[offVersion:], version215)
		le.PutUint32(b[offKernelAlign:], 2<<20)
		le.PutUint32(b[offCmdlineSize:], defaultCmdline)
	}
	le.PutUint16(b[offVidMode:], vidModeNormal)
	b[offTypeOfLoader] = loaderUnknown
	b[offLoadFlags] |= loadedHigh
	le.PutUint64(b[offRSDP:], cfg.Machine.Base)
	le.PutUint32(b[offCmdLinePtr:], cmdlineAddr)
	le.PutUint32(b[offRamdiskImage:], uint32(initrd.Base))
	le.PutUint32(b[offExtRamdiskImage:], uint32(initrd.Base>>32))
	le.PutUint32(b[offRamdiskSize:], uint32(initrd.Size))
	le.PutUint32(b[offExtRamdiskSize:], uint32(initrd.Size>>32))
	if len(cfg.RNGSeed) > 0 {
		le.PutUint64(b[offSetupData:], seedAddr)
	}
	b[offE820Entries] = byte(len(e820))
	for i, e := range e820 {
		p := b[offE820Table+i*e820Size:]
		le.PutUint64(p, e.Base)
		le.PutUint64(p[8:], e.Size)
		le.PutUint32(p[16:], e.kind)
	}
	return b
}

// setupData is the one struct setup_data that the zero page points to: the seed
// of the kernel's random number generator.
func setupData(seed []byte) []byte {
	b := make([]byte, 16, 16+len(seed)) // no next one
	binary.LittleEndian.PutUint32(b[8:], setupRNGSeed)
	binary.LittleEndian.PutUint32(b[12:], uint32(len(seed)))
	return append(b, seed...)
}

// cmdline is the command line as the kernel wants it, or why it would not take
// all of it.
func cmdline(cfg *Config) ([]byte, error) {
	limit := uint32(defaultCmdline)
	const field = offCmdlineSize - bzimage.HeaderOffset
	if h := cfg.Kernel.SetupHeader; len(h) >= field+4 {
		limit = min(binary.LittleEndian.Uint32(h[field:]), cmdlineMax-1)
	}
	if uint64(len(cfg.Cmdline)) > uint64(limit) {
		return nil, fmt.Errorf("a kernel command line of %d bytes: this kernel reads %d", len(cfg.Cmdline), limit)
	}
	for i := range len(cfg.Cmdline) {
		if cfg.Cmdline[i] == 0 {
			return nil, fmt.Errorf("the kernel command line has a zero byte at %d", i)
		}
	}
	return append([]byte(cfg.Cmdline), 0), nil
}
