package trap

import (
	"bytes"

	"warder/vmm"
)

// instruction is one that a hook may stand in place of: what it does is done for
// it.
type instruction struct {
	length int
	kind   instructionKind
	target uint64 // of a call or jump
}

type instructionKind uint8

const (
	noEffect instructionKind = iota
	doesJump
	doesCall
	doesReturn
)

// understood says what an instruction does, false for one that nobody here can
// do.
func understood(arch string, code []byte, at uint64) (instruction, bool) {
	if arch == "arm64" {
		return understoodARM64(code, at)
	}
	return understoodAMD64(code, at)
}

func understoodAMD64(code []byte, at uint64) (instruction, bool) {
	p := patches["amd64"]
	if bytes.HasPrefix(code, p.nop) {
		return instruction{length: len(p.nop)}, true
	}
	for _, nop := range p.before[0] {
		if bytes.HasPrefix(code, nop) {
			return instruction{length: len(nop)}, true
		}
	}
	const call, jump, length = 0xe8, 0xe9, 5
	if len(code) < length {
		return instruction{}, false
	}
	target := at + length + uint64(int64(int32(le.Uint32(code[1:]))))
	switch code[0] {
	case call:
		return instruction{length, doesCall, target}, true
	case jump:
		return instruction{length, doesJump, target}, true
	}
	return instruction{}, false
}

// Encodings of Arm ARM, C4.1.
func understoodARM64(code []byte, at uint64) (instruction, bool) {
	const length = 4
	if len(code) < length {
		return instruction{}, false
	}
	w := le.Uint32(code)
	const nop, btiC, btiJC, ret = 0xd503201f, 0xd503245f, 0xd50324df, 0xd65f03c0
	switch w {
	case nop, btiC, btiJC:
		return instruction{length: length}, true
	case ret:
		return instruction{length, doesReturn, 0}, true
	}
	// 26 bits of signed words from the instruction.
	target := at + uint64(int64(int32(w<<6))>>6<<2)
	const opcode, b, bl = 0xfc000000, 0x14000000, 0x94000000
	switch w & opcode {
	case b:
		return instruction{length, doesJump, target}, true
	case bl:
		return instruction{length, doesCall, target}, true
	}
	return instruction{}, false
}

// preludes are instructions that a function may run before its hook: they touch
// nothing but registers, and nobody jumps behind them.
var preludes = map[string][]struct {
	opcode []byte
	length int
}{
	"amd64": {{[]byte{0x48, 0xc7, 0xc7}, 7}}, // mov $imm32, %rdi
	"arm64": {
		{[]byte{0x00, 0x00, 0x80, 0x52}, 4}, // mov w0, #0
		{[]byte{0x3f, 0x23, 0x03, 0xd5}, 4}, // paciasp
		{[]byte{0xbf, 0x23, 0x03, 0xd5}, 4}, // autiasp
	},
}

// prelude is the length of such instructions at the start of code. Linux up to 6.1
// begins tracerBegins with one, and for arm64 has nothing else before its ret.
func prelude(arch string, code []byte) (length int) {
	for more := true; more; {
		more = false
		for _, p := range preludes[arch] {
			if len(code)-length > p.length && bytes.HasPrefix(code[length:], p.opcode) {
				length += p.length
				more = true
			}
		}
	}
	return length
}

// through is what lets the function run: it does what was in the hook's place.
func (s *site) through(cpu CPU) (vmm.TrapAction, error) {
	switch s.does.kind {
	case doesCall:
		return vmm.Call(s.does.target), nil
	case doesJump:
		return vmm.Resume(s.does.target), nil
	case doesReturn:
		back, err := cpu.ReturnAddress()
		return vmm.Resume(back), err
	}
	return vmm.Resume(s.at + uint64(s.does.length)), nil
}
