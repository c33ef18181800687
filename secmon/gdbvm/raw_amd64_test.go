package gdbvm_test

const (
	pcName   = "rip"
	loopName = "rbx" // small spins while it is not 0
)

var small = []byte{
	0xbb, 0x01, 0x00, 0x00, 0x00, // mov $1, %ebx
	0x85, 0xdb, // 1: test %ebx, %ebx
	0x75, 0xfc, // jne 1b
	0x66, 0xba, 0x00, 0x06, // mov $0x600, %dx
	0xb0, 5<<2 | 1<<5, // mov $0x34, %al: S5
	0xee,       // out %al, (%dx)
	0xeb, 0xfe, // jmp .
}

// gdbShows is what GDB says of the guest of this architecture.
var gdbShows = []string{"test   %ebx,%ebx", "st0", "fctrl", "xmm15", "mxcsr", "fs_base", "cr3", "k_gs_base"}
