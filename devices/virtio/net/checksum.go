package net

import (
	"encoding/binary"
	"math/bits"
)

// The Internet checksum (RFC 1071): the sum of 16-bit words in ones' complement.

// add adds the words of p to sum. A last odd byte counts as the first of a word.
// Words are added eight bytes at a time, carries included, which comes to the same
// when it is folded.
func add(sum uint64, p []byte) uint64 {
	var carry uint64
	for ; len(p) >= 32; p = p[32:] {
		sum, carry = bits.Add64(sum, binary.BigEndian.Uint64(p), 0)
		sum, carry = bits.Add64(sum, binary.BigEndian.Uint64(p[8:]), carry)
		sum, carry = bits.Add64(sum, binary.BigEndian.Uint64(p[16:]), carry)
		sum, carry = bits.Add64(sum, binary.BigEndian.Uint64(p[24:]), carry)
		sum += carry
	}
	for ; len(p) >= 8; p = p[8:] {
		sum, carry = bits.Add64(sum, binary.BigEndian.Uint64(p), 0)
		sum += carry
	}
	var tail [8]byte
	copy(tail[:], p)
	sum, carry = bits.Add64(sum, binary.BigEndian.Uint64(tail[:]), 0)
	return sum + carry
}

// fold is sum as one word.
func fold(sum uint64) uint16 {
	sum = sum>>32 + sum&0xffff_ffff
	sum = sum>>32 + sum&0xffff_ffff
	sum = sum>>16 + sum&0xffff
	sum = sum>>16 + sum&0xffff
	return uint16(sum + sum>>16)
}

// A summer sums bytes that come in pieces of any length.
type summer struct {
	sum uint64
	odd bool
}

func (s *summer) add(p []byte) {
	if len(p) == 0 {
		return
	}
	part := uint64(fold(add(0, p)))
	if s.odd { // each byte is in the other half of its word
		part = uint64(bits.ReverseBytes16(uint16(part)))
	}
	s.sum += part
	s.odd = s.odd != (len(p)%2 == 1)
}
