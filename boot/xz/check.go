package xz

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"hash"
	"hash/crc32"
	"hash/crc64"
)

// A checkType says how a stream's blocks are checked, section 2.1.1.2.
type checkType byte

const (
	checkNone   checkType = 0
	checkCRC32  checkType = 1 // all that the kernel's own decompressor knows
	checkCRC64  checkType = 4 // what xz(1) writes
	checkSHA256 checkType = 10
)

// A check sums up a block.
type check struct {
	hash.Hash
	littleEndian bool
}

var ecma = crc64.MakeTable(crc64.ECMA)

func (t checkType) new() (check, error) {
	switch t {
	case checkNone:
		return check{Hash: nothing{}}, nil
	case checkCRC32:
		return check{crc32.NewIEEE(), true}, nil
	case checkCRC64:
		return check{crc64.New(ecma), true}, nil
	case checkSHA256:
		return check{sha256.New(), false}, nil
	}
	return check{}, fmt.Errorf("xz: unsupported check %d", t)
}

// value is the sum as the file has it.
func (c check) value() []byte {
	sum := c.Sum(nil)
	if !c.littleEndian {
		return sum
	}
	if len(sum) == 4 {
		return binary.LittleEndian.AppendUint32(nil, binary.BigEndian.Uint32(sum))
	}
	return binary.LittleEndian.AppendUint64(nil, binary.BigEndian.Uint64(sum))
}

// nothing is the hash of a stream without checks.
type nothing struct{}

func (nothing) Write(p []byte) (int, error) { return len(p), nil }
func (nothing) Sum(b []byte) []byte         { return b }
func (nothing) Reset()                      {}
func (nothing) Size() int                   { return 0 }
func (nothing) BlockSize() int              { return 1 }
