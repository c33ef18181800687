//go:build soak

package vmm_test

// codeCount counts at counterAddr.
var codeCount = []byte{
	0xbb, 0x00, 0x00, 0x00, 0x02, // mov $counterAddr, %ebx
	0x48, 0xff, 0x03, // 1: incq (%rbx)
	0xeb, 0xfb, // jmp 1b
}

const counterAddr = 0x200_0000
