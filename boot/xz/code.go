package xz

import (
	"encoding/binary"
	"io"
)

// Before compression, a code filter turns the relative targets of branches into
// absolute ones, which repeat more often (section 5.3.2). What is here undoes it.

// A codeReader undoes a code filter on what it reads.
type codeReader struct {
	r    io.Reader
	undo func(p []byte) int // converts as many bytes as it can be sure of
	buf  []byte             // read, of which done bytes are converted
	done int
	err  error
}

func newCodeReader(r io.Reader, id int64) io.Reader {
	c := &codeReader{r: r, buf: make([]byte, 0, 64<<10)}
	if id == filterX86 {
		c.undo = new(x86).undo
	} else {
		c.undo = new(arm64).undo
	}
	return c
}

func (c *codeReader) Read(p []byte) (int, error) {
	for c.done == 0 {
		if c.err != nil {
			return 0, c.err
		}
		var n int
		n, c.err = c.r.Read(c.buf[len(c.buf):cap(c.buf)])
		c.buf = c.buf[:len(c.buf)+n]
		c.done = c.undo(c.buf)
		if c.err == io.EOF {
			c.done = len(c.buf) // an instruction that is cut was not converted
		}
	}
	n := copy(p, c.buf[:c.done])
	c.done -= n
	c.buf = c.buf[:copy(c.buf, c.buf[n:])]
	return n, nil
}

// x86 undoes the filter for calls and jumps with targets of 32 bits, opcodes E8
// and E9. Where such a byte is part of another instruction, the filter leaves it
// alone if it can tell: a target is near, so its last byte is 00 or FF.
type x86 struct {
	pos uint32
	// left has bit n set when the byte n+1 before this one was an opcode that was
	// left alone.
	left uint8
}

func (f *x86) undo(p []byte) int {
	const instruction = 5
	i := 0
	for i+instruction <= len(p) {
		if p[i]&0xfe != 0xe8 {
			f.left = f.left << 1 & 7
			i++
			continue
		}
		if !near(p[i+4]) || !f.alone(p[i:]) {
			f.left = (f.left<<1 | 1) & 7
			i++
			continue
		}
		target := p[i+1 : i+instruction]
		v := f.relative(binary.LittleEndian.Uint32(target), f.pos+uint32(i)+instruction)
		binary.LittleEndian.PutUint32(target, v)
		f.left = 0
		i += instruction
	}
	f.pos += uint32(i)
	return i
}

// near tells whether the last byte of a target is one of those converted.
func near(b byte) bool { return b == 0 || b == 0xff }

// back is how many bytes before this one the farthest opcode is that was left
// alone, 0 when none is.
func (f *x86) back() int { return [8]int{0, 1, 2, 2, 3, 3, 3, 3}[f.left] }

// alone tells whether the instruction at the beginning of p is converted in
// spite of one close before it: if there is but one, whose target p's own bytes
// show not to have been near.
func (f *x86) alone(p []byte) bool {
	switch f.left {
	case 0:
		return true
	case 1, 2, 4:
		return !near(p[4-f.back()])
	}
	return false
}

// relative undoes the sum of a target and the address behind its instruction. It
// is done again as long as it leaves a byte that would have kept the filter from
// converting this instruction.
func (f *x86) relative(v, next uint32) uint32 {
	v -= next
	if shift := 8 * f.back(); shift > 0 {
		for near(byte(v >> (24 - shift))) {
			v ^= 1<<(32-shift) - 1
			v -= next
		}
	}
	// 25 bits with their sign, as the filter wrote them.
	return uint32(int32(v<<7) >> 7)
}

// arm64 undoes the filter for BL, and for ADRP within 512 MiB.
type arm64 struct{ pos uint32 }

func (f *arm64) undo(p []byte) int {
	const (
		instruction    = 4
		bl, blMask     = 0x9400_0000, 0xfc00_0000
		adrp, adrpMask = 0x9000_0000, 0x9f00_0000
		register       = 0x1f
	)
	i := 0
	for ; i+instruction <= len(p); i += instruction {
		pc := f.pos + uint32(i)
		v := binary.LittleEndian.Uint32(p[i:])
		switch {
		case v&blMask == bl:
			v = bl | (v-pc>>2)&^blMask
		case v&adrpMask == adrp:
			page := v>>29&3 | v>>3&0x1f_fffc
			if (page+0x2_0000)&0x1c_0000 != 0 {
				continue // too far, it was not converted
			}
			page -= pc >> 12
			v = adrp | v&register | page&3<<29 | page&0x3_fffc<<3 | -(page&0x2_0000)&0xe0_0000
		default:
			continue
		}
		binary.LittleEndian.PutUint32(p[i:], v)
	}
	f.pos += uint32(i)
	return i
}
