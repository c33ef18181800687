package lab

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"os"
	"path/filepath"
)

// An instruction is bytes of machine code; anyByte stands for whatever a build
// has there.
type instruction []int16

const anyByte = -1

func fourOf(b ...int16) instruction {
	return append(instruction(b), anyByte, anyByte, anyByte, anyByte)
}

// doubledVector is how QEMU injects an interrupt for VMRUN (helper_vmrun in
// target/i386/tcg/system/svm_helper.c), as Debian's GCC builds it. The first
// instruction leaves the vector in exception_index, from which it is delivered
// again, as an exception, where the emulator leaves its loop before the guest's
// next exit. What the second delivery is for is done by the call already.
var doubledVector = []instruction{
	{0x89, 0xb3, anyByte, anyByte, 0xff, 0xff},       // cs->exception_index = vector
	append(fourOf(0xc7, 0x83), 0, 0, 0, 0),           // env->exception_is_int = 0
	append(fourOf(0x48, 0xc7, 0x83), ff, ff, ff, ff), // env->exception_next_eip = -1
	append(fourOf(0xf6, 0x05), 2),                    // is it logged?
	fourOf(0x0f, 0x85),
	{0xba, 1, 0, 0, 0}, // do_interrupt_x86_hardirq(env, vector, 1)
	{0x48, 0x89, 0xdf},
	fourOf(0xe8),
}

const ff = 0xff

// sixNothings is a NOP of the length of the first instruction (Intel SDM,
// volume 2, NOP).
var sixNothings = []byte{0x66, 0x0f, 0x1f, 0x44, 0, 0}

// mendDoubledVector takes the store out of a QEMU's program code. It reports
// false, and changes nothing, unless code has those instructions exactly once.
func mendDoubledVector(code []byte) bool {
	var shape instruction
	for _, i := range doubledVector {
		shape = append(shape, i...)
	}
	found := -1
	for at := range max(0, len(code)-len(shape)+1) {
		if !shape.matches(code[at:]) {
			continue
		}
		if found >= 0 {
			return false
		}
		found = at
	}
	if found < 0 {
		return false
	}
	copy(code[found:], sixNothings)
	return true
}

func (i instruction) matches(code []byte) bool {
	for n, b := range i {
		if b != anyByte && code[n] != byte(b) {
			return false
		}
	}
	return true
}

// mended returns a copy of q in the cache without the fault that makes guests on
// amd64 stand still or crash, and q itself if it does not have the fault in the
// form that is known, which is no error.
func (q QEMU) mended(ctx context.Context) (QEMU, error) {
	code, err := os.ReadFile(q.Path)
	if err != nil {
		return q, err
	}
	sum := sha256.Sum256(code)
	if !mendDoubledVector(code) {
		return q, nil
	}
	dir, err := cacheDir("qemu-mended-" + hex.EncodeToString(sum[:6]))
	if err != nil {
		return q, err
	}
	name := filepath.Base(q.Path)
	dir, err = unpackOnce(ctx, dir, func(dir string) error { return os.WriteFile(filepath.Join(dir, name), code, 0o755) })
	if err != nil {
		return q, err
	}
	if q.Data == nil { // a program looks for its firmware beside itself
		share := filepath.Join(filepath.Dir(filepath.Dir(q.Path)), "share")
		q.Data = []string{filepath.Join(share, "seabios"), filepath.Join(share, "qemu")}
	}
	q.Path = filepath.Join(dir, name)
	return q, nil
}
