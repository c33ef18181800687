//go:build soak

package vmm_test

// codeCount counts at counterAddr.
var codeCount = a64(
	0xd2a8_4001, // mov x1, #counterAddr
	0xf940_0020, // 1: ldr x0, [x1]
	0x9100_0400, // add x0, x0, #1
	0xf900_0020, // str x0, [x1]
	0x17ff_fffd, // b 1b
)

const counterAddr = 0x4200_0000
