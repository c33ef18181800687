package act

import "encoding/binary"

// halting waits again and again for the interrupt of its timer, and takes it without an
// exception: a WFI while one is pending does not leave the guest. It resets the machine
// if that has a GICv2.
var halting = func() (code []byte) {
	for _, w := range []uint32{
		0xd2a1_0002, // mov x2, #0x8000000: the distributor
		0xd2a1_0163, // mov x3, #0x80b0000: the private interrupts of its side of the CPU
		0x52a1_0005, // mov w5, #0x8000000: the timer's interrupt, 27
		0x5280_1e06, // mov w6, #0xf0
		0xd280_0027, // mov x7, #0x1
		0xd51b_e327, // msr cntv_ctl_el0, x7: the timer is on
		0xd538_0401, // mrs x1, id_aa64pfr0_el1
		0xd358_6c21, // ubfx x1, x1, #24, #4: those of a GICv3
		0xb400_01c1, // cbz x1, 2f: it has no registers
		0x5280_0240, // mov w0, #0x12: affinity routing, group 1
		0xb900_0040, // str w0, [x2]
		0xb900_8065, // str w5, [x3, #128]: 27 is in group 1
		0xb901_0065, // str w5, [x3, #256]: and enabled
		0xd518_4606, // msr icc_pmr_el1, x6: priorities that pass: ICC_PMR_EL1
		0xd518_cce7, // msr icc_igrpen1_el1, x7: ICC_IGRPEN1_EL1
		0xd282_0001, // 1: mov x1, #0x1000: soon
		0xd51b_e301, // msr cntv_tval_el0, x1
		0xd503_207f, // wfi
		0xd538_cc00, // mrs x0, icc_iar1_el1: takes it: ICC_IAR1_EL1
		0xd51b_e305, // msr cntv_tval_el0, x5: no more of it for now
		0xd518_cc20, // msr icc_eoir1_el1, x0: and is done: ICC_EOIR1_EL1
		0x17ff_fffa, // b 1b
		0x5280_0120, // 2: mov w0, #9: SYSTEM_RESET
		0x72b0_8000, // movk w0, #0x8400, lsl #16
		0xd400_0002, // hvc #0
	} {
		code = binary.LittleEndian.AppendUint32(code, w)
	}
	return code
}()
