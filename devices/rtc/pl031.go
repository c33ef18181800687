package rtc

import (
	"encoding/binary"
	"sync"
	"time"
)

// PL031Size is the length in bytes of the PL031's MMIO registers.
const PL031Size = 0x1000

// PL031 registers by offset (Arm DDI 0224C, table 3-1).
const (
	pl031DR   = 0x00 // the time in seconds since 1970
	pl031MR   = 0x04 // the alarm's
	pl031LR   = 0x08 // written: sets the time
	pl031CR   = 0x0c // bit 0: the clock runs, always
	pl031IMSC = 0x10 // bit 0: interrupt unmasked
	pl031ID   = 0xfe0
)

// pl031IDs are PeriphID0 to PeriphID3, then PCellID0 to PCellID3: part 0x031 by
// Arm, revision 0.
var pl031IDs = [8]byte{0x31, 0x10, 0x04, 0x00, 0x0d, 0xf0, 0x05, 0xb1}

// PL031 is Arm's PrimeCell real-time clock. It is a bus.Device of PL031Size
// bytes, safe for concurrent use.
type PL031 struct {
	clock func() time.Time

	mu     sync.Mutex
	offset uint32 // seconds that the guest has set the clock off by, modulo 2^32
	load   uint32
	match  uint32
	mask   uint32
}

// NewPL031 returns a clock that tells clock's time.
func NewPL031(clock func() time.Time) *PL031 { return &PL031{clock: clock} }

// Read implements bus.Device. The registers are 32 bits wide and little-endian:
// an access reads within one register, and 0 past it.
func (r *PL031) Read(off uint64, p []byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	var word [4]byte
	binary.LittleEndian.PutUint32(word[:], r.register(off&^3))
	clear(p)
	copy(p, word[off&3:])
}

// Write implements bus.Device. Only whole registers can be written.
func (r *PL031) Write(off uint64, p []byte) {
	if len(p) != 4 {
		return
	}
	v := binary.LittleEndian.Uint32(p)
	r.mu.Lock()
	defer r.mu.Unlock()
	switch off {
	case pl031MR:
		r.match = v
	case pl031LR:
		r.load = v
		r.offset = v - uint32(r.clock().Unix())
	case pl031IMSC:
		r.mask = v & 1
	}
}

func (r *PL031) register(off uint64) uint32 {
	switch off {
	case pl031DR:
		return uint32(r.clock().Unix()) + r.offset
	case pl031MR:
		return r.match
	case pl031LR:
		return r.load
	case pl031CR:
		return 1
	case pl031IMSC:
		return r.mask
	}
	if off >= pl031ID && off < PL031Size {
		return uint32(pl031IDs[(off-pl031ID)/4])
	}
	return 0
}
