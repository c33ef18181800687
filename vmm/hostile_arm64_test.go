package vmm_test

import "math/rand/v2"

// attackRAM is where RAM starts.
const attackRAM = 1 << 30

// attacker carries out the n steps of a vCPU's script, again and again. An access
// that the CPU refuses is passed over. Whichever vCPU starts over starts the second.
func attacker(n uint32) []byte {
	const header, vectors, synchronous = 64, 0x800, 0x200
	code := make([]byte, vectors+synchronous-header)
	copy(code, a64(
		0x1000_3e01,                    // adr x1, vectors
		0xd518_c001,                    // msr vbar_el1, x1
		0xd2a0_000a|scriptOf(0)>>16<<5, // mov x10, #script(0)
		0x1400_0004,                    // b start
		0x1000_3d81,                    // second: adr x1, vectors
		0xd518_c001,                    // msr vbar_el1, x1
		0xd2a0_000a|scriptOf(1)>>16<<5, // mov x10, #script(1)
		0x5280_0060,                    // start: mov w0, #3: CPU_ON, for 64 bits
		0x72b8_8000,                    // movk w0, #0xc400, lsl #16
		0xd280_0021,                    // mov x1, #1: the second vCPU
		0x10ff_ff42,                    // adr x2, second
		0xd400_0002,                    // hvc #0
		0xaa0a_03e1,                    // mov x1, x10
		0x5280_0002|n&0xffff<<5,        // mov w2, #n
		0x72a0_0002|n>>16<<5,           // movk w2, #n>>16, lsl #16
		0xa8c1_1023,                    // next: ldp x3, x4, [x1], #16
		0xd360_fc85,                    // lsr x5, x4, #32
		0x7100_04a5,                    // subs w5, w5, #1
		0x5400_0163,                    // b.lo store32
		0x5400_0180,                    // b.eq load32
		0x7100_08a5,                    // subs w5, w5, #2
		0x5400_0183,                    // b.lo store16
		0x5400_01a0,                    // b.eq store8
		0x7100_08a5,                    // subs w5, w5, #2
		0x5400_01a3,                    // b.lo store64
		0xb940_0066,                    // ldr w6, [x3]
		0x0a04_00c6,                    // and w6, w6, w4
		0xb900_1066,                    // str w6, [x3, #16]
		0x1400_000a,                    // b done
		0xb900_0064,                    // store32: str w4, [x3]
		0x1400_0008,                    // b done
		0xb940_0064,                    // load32: ldr w4, [x3]
		0x1400_0006,                    // b done
		0x7900_0064,                    // store16: strh w4, [x3]
		0x1400_0004,                    // b done
		0x3900_0064,                    // store8: strb w4, [x3]
		0x1400_0002,                    // b done
		0xf900_0064,                    // store64: str x4, [x3]
		0x7100_0442,                    // done: subs w2, w2, #1
		0x54ff_fd01,                    // b.ne next
		0x17ff_ffdf,                    // b start
	))
	return append(code, a64(
		0xd538_4027, // mrs x7, elr_el1
		0x9100_10e7, // add x7, x7, #4
		0xd518_4027, // msr elr_el1, x7
		0xd69f_03e0, // eret
	)...)
}

// secondAttacker is what the second vCPU begins with beside attacker: nothing.
func secondAttacker() (code []byte, at uint64) { return nil, attackRAM }

// platform does something to what is no virtio device.
func (s *script) platform(random *rand.Rand) {
	// The GIC, the UART, the clock, the watchdog, the GPIO with the power key, what is around them.
	base := []uint64{0x0800_0000, 0x0801_0000, 0x080a_0000, 0x0900_0000, 0x0901_0000, 0x0902_0000, 0x0903_0000, 0x1000_0000}[random.IntN(8)]
	s.add(base+uint64(random.IntN(0x1000))&^3, random.Uint32(), width(random))
}
