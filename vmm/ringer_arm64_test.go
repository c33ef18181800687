package vmm_test

// ringer stores what steps says, up to a step to address 0, then makes ringBatch chains
// available by the index at avail, rings at notify, waits for the index at used, and
// does so again.
func ringer(steps, avail, used, notify uint32) []byte {
	var code []uint32
	address := func(register, v uint32) { // movz, movk
		code = append(code, 0x5280_0000|v&0xffff<<5|register, 0x72a0_0000|v>>16<<5|register)
	}
	address(1, steps)
	code = append(code,
		0xa8c1_0c22, // next: ldp x2, x3, [x1], #16
		0xb400_0062, // cbz x2, up
		0xb900_0043, // str w3, [x2]
		0x17ff_fffd, // b next
	)
	address(4, avail) // up:
	address(5, used)
	address(6, notify)
	return a64(append(code,
		0x7940_0087,               // ring: ldrh w7, [x4]
		0x1100_00e7|ringBatch<<10, // add w7, w7, #ringBatch
		0x1200_3ce7,               // and w7, w7, #0xffff
		0x7900_0087,               // strh w7, [x4]
		0xd503_3bbf,               // dmb ish
		0xb900_00df,               // str wzr, [x6]
		0x7940_00a8,               // wait: ldrh w8, [x5]
		0x6b07_011f,               // cmp w8, w7
		0x54ff_ff00,               // b.eq ring
		0xd503_203f,               // yield
		0x17ff_fffc,               // b wait
	)...)
}
