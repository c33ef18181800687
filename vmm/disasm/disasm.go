// Package disasm decodes the one instruction at which a vCPU stands, for the
// report of a crash.
package disasm

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"

	"golang.org/x/arch/arm64/arm64asm"
	"golang.org/x/arch/x86/x86asm"
)

// MaxLen is the length in bytes of the longest instruction of any architecture:
// as much code as there is need to give.
const MaxLen = 15

// ErrDecode says that the bytes are no instruction that this package knows. They
// may still be one to the CPU.
var ErrDecode = errors.New("not a known instruction")

// Instruction is one decoded instruction.
type Instruction struct {
	Text string // in GNU syntax
	Len  int    // bytes
}

// AMD64 decodes the x86 instruction at the start of code, which stands at pc, for
// a code segment of mode bits: 16, 32 or 64.
func AMD64(code []byte, pc uint64, mode int) (Instruction, error) {
	code = code[:min(len(code), MaxLen)]
	for _, k := range amd64Known {
		if bytes.HasPrefix(code, k.code) {
			return Instruction{k.text, len(k.code)}, nil
		}
	}
	inst, err := x86asm.Decode(code, mode)
	if err != nil || inst.Op == 0 {
		return Instruction{}, fmt.Errorf("%w: % x", ErrDecode, code)
	}
	return Instruction{x86asm.GNUSyntax(inst, pc, nil), inst.Len}, nil
}

// amd64Known is what x86asm does not decode and a guest kernel has (Intel SDM
// volume 2, AMD APM volume 3).
var amd64Known = []struct {
	code []byte
	text string
}{
	{[]byte{0xf3, 0x0f, 0x1e, 0xfa}, "endbr64"},
	{[]byte{0xf3, 0x0f, 0x1e, 0xfb}, "endbr32"},
	{[]byte{0x0f, 0x01, 0xc1}, "vmcall"},
	{[]byte{0x0f, 0x01, 0xd9}, "vmmcall"},
	{[]byte{0x0f, 0x01, 0xca}, "clac"},
	{[]byte{0x0f, 0x01, 0xcb}, "stac"},
	{[]byte{0x0f, 0x01, 0xc8}, "monitor"},
	{[]byte{0x0f, 0x01, 0xc9}, "mwait"},
	{[]byte{0x0f, 0xb9}, "ud1"},
	{[]byte{0x0f, 0xff}, "ud0"},
}

// ARM64 decodes the A64 instruction at the start of code, which stands at pc.
func ARM64(code []byte, pc uint64) (Instruction, error) {
	if len(code) < 4 {
		return Instruction{}, fmt.Errorf("%w: % x", ErrDecode, code)
	}
	word := binary.LittleEndian.Uint32(code)
	if text, ok := arm64Exception(word); ok {
		return Instruction{text, 4}, nil
	}
	inst, err := arm64asm.Decode(code[:4])
	if err != nil {
		return Instruction{}, fmt.Errorf("%w: %08x", ErrDecode, word)
	}
	return Instruction{arm64Text(inst, pc), 4}, nil
}

// arm64Text writes inst with the address that a PC-relative operand means.
func arm64Text(inst arm64asm.Inst, pc uint64) string {
	text := strings.TrimSpace(arm64asm.GNUSyntax(inst))
	if inst.Op == arm64asm.ADRP {
		pc &^= 0xfff
	}
	for _, arg := range inst.Args {
		if rel, ok := arg.(arm64asm.PCRel); ok {
			text = strings.Replace(text, rel.String(), fmt.Sprintf("%#x", pc+uint64(rel)), 1)
		}
	}
	return text
}

// arm64Exception decodes the instructions that generate exceptions, which
// arm64asm knows in part (Arm ARM DDI 0487, section C4.1.94).
func arm64Exception(word uint32) (string, bool) {
	if word>>16 == 0 {
		return fmt.Sprintf("udf #%#x", word), true
	}
	name, ok := map[uint32]string{
		0xd400_0001: "svc",
		0xd400_0002: "hvc",
		0xd400_0003: "smc",
		0xd420_0000: "brk",
		0xd440_0000: "hlt",
	}[word&0xffe0_001f]
	return fmt.Sprintf("%s #%#x", name, word>>5&0xffff), ok
}
