package vmm_test

import (
	"encoding/binary"
	"testing"

	"warder/vmm"
)

// a64 is a sequence of instructions.
func a64(words ...uint32) (code []byte) {
	for _, w := range words {
		code = binary.LittleEndian.AppendUint32(code, w)
	}
	return code
}

// declined is how codeTrap ends when its hook is no hook: the BRK is the guest's,
// whose vector is there for it, and resets the machine.
const declined = vmm.Reset

const (
	movW0Off   = 0x5280_0100 // mov w0, #8: SYSTEM_OFF
	movW0Reset = 0x5280_0120 // mov w0, #9: SYSTEM_RESET
	movkW0PSCI = 0x72b0_8000 // movk w0, #0x8400, lsl #16
	hvc        = 0xd400_0002 // hvc #0
	spin       = 0x1400_0000 // b .
)

var (
	codePowerOff = a64(movW0Off, movkW0PSCI, hvc, spin)

	// A pair of registers loaded from where no memory is: the CPU does not say
	// of such an access what it was.
	codeCrash = a64(
		0xd297_dde5, 0xf2bb_d5a5, // mov x5, #0xdeadbeef
		0xd2a2_0002, // mov x2, #0x10000000
		0xa940_0440, // ldp x0, x1, [x2]
	)
	crashInstruction = "ldp"
	crashRegister    = "x5     00000000deadbeef"

	codeSpin = a64(spin)

	codeStrayStorm = a64(
		0xd2a2_0002, // mov x2, #0x10000000
		0xb900_0040, // str w0, [x2]
		0x17ff_ffff, // b to it
	)

	// Calls a function that a hook does the work of.
	codeTrapStorm = a64(
		0x9400_0002, // bl the hook
		0x17ff_ffff, // b to it
		0xd42a_e880, // brk #0x5744
	)

	// Starts the watchdog with a count of 10, and forgets it.
	codeWatchdog = a64(
		0xd2a1_2042, // mov x2, #0x9020000
		0x5280_0140, // mov w0, #10
		0xb900_0040, // str w0, [x2]
		0x5280_0060, // mov w0, #3
		0xb900_0840, // str w0, [x2, #8]
		spin,
	)

	// A store to 2 GiB, where memory may be plugged; then power off.
	codeUnplugged = a64(
		0xd2b0_0002, // mov x2, #0x80000000
		0xf900_0040, // str x0, [x2]
		movW0Off, movkW0PSCI, hvc, spin,
	)

	// codeTrap calls a function that has a hook at its start and returns 1. If
	// it did, the guest powers off, else it resets; it also resets on an exception.
	codeTrap = withVectors(
		0x1000_3e01, // adr x1, vectors
		0xd518_c001, // msr vbar_el1, x1
		0xd282_4680, // mov x0, #0x1234
		0x9400_0008, // bl function
		0xf100_041f, // cmp x0, #1
		movW0Off,
		0x5400_0040, // b.eq 1f
		movW0Reset,
		movkW0PSCI, hvc, spin, // 1:
		0xd42a_e880, // function: brk #0x5744
		0xd280_0020, // mov x0, #1
		0xd65f_03c0, // ret
	)
)

// withVectors is instructions with exception vectors behind them, 2 KiB into the
// image, of which the one for EL1 resets the machine.
func withVectors(words ...uint32) []byte {
	const header, vectors, synchronous = 64, 0x800, 0x200
	code := make([]byte, vectors+synchronous-header)
	copy(code, a64(words...))
	return append(code, a64(movW0Reset, movkW0PSCI, hvc, spin)...)
}

// codeActs makes hypercalls by HVC and by a store, an SMC that nobody answers, and
// touches an address where nothing is. It powers off if the results are right, else
// it resets.
var codeActs = withVectors(
	0x1000_3e01, // adr x1, vectors
	0xd518_c001, // msr vbar_el1, x1
	0xd28a_e000, // mov x0, #0x5700
	0xf2b8_c000, // movk x0, #0xc600, lsl #16
	hvc,         // the version
	0xf100_041f, // cmp x0, #1
	0x5400_0341, // b.ne 9f
	0xd28a_e020, // mov x0, #0x5701
	0xf2b8_c000, // movk x0, #0xc600, lsl #16
	0xd280_0ee1, // mov x1, #0x77
	0xaa1f_03e2, // mov x2, xzr
	0xaa1f_03e3, // mov x3, xzr
	0xaa1f_03e4, // mov x4, xzr
	hvc,
	0xf101_e01f, // cmp x0, #0x78
	0x5400_0221, // b.ne 9f
	0xd2a1_2085, // mov x5, #0x9040000
	0x5280_0020, // mov w0, #1
	0xb900_00a0, // str w0, [x5]
	0xf101_e01f, // cmp x0, #0x78
	0x5400_0181, // b.ne 9f
	0xd280_00a0, // mov x0, #5
	0xd400_0003, // smc #0
	0xb100_041f, // cmn x0, #1
	0x5400_0101, // b.ne 9f
	0xd2a2_0005, // mov x5, #0x10000000
	0xb940_00a6, // ldr w6, [x5]
	movW0Off, movkW0PSCI, hvc, spin,
	0xd503_201f,                       // nop
	movW0Reset, movkW0PSCI, hvc, spin, // 9:
)

func wantActs(t *testing.T) []vmm.Act {
	t.Helper()
	mark := vmm.Act{Kind: vmm.Hypercall, Value: vmm.HypercallMark, Args: [4]uint64{0x77}}
	return []vmm.Act{
		mark, mark,
		{Kind: vmm.FirmwareCall, Name: "smc", Value: 5, Args: [4]uint64{0x77}},
		{Kind: vmm.Stray, Addr: 0x1000_0000, Size: 4},
	}
}
