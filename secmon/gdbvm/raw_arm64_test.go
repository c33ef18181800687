package gdbvm_test

import "encoding/binary"

const (
	pcName   = "pc"
	loopName = "x1" // small spins while it is not 0
)

var small = func() (code []byte) {
	for _, w := range []uint32{
		0xd280_0021, // mov x1, #1
		0xb500_0001, // cbnz x1, .
		0x5280_0100, // mov w0, #8: SYSTEM_OFF
		0x72b0_8000, // movk w0, #0x8400, lsl #16
		0xd400_0002, // hvc #0
		0x1400_0000, // b .
	} {
		code = binary.LittleEndian.AppendUint32(code, w)
	}
	return code
}()

// gdbShows is what GDB says of the guest of this architecture.
var gdbShows = []string{"cbnz\tx1", "v31", "fpcr", "vbar_el1", "ttbr1_el1"}
