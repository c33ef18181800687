package vmm

import "warder/devices/guestmem"

// kib, mib and gib count bytes.
const (
	kib = 1 << 10
	mib = 1 << 20
	gib = 1 << 30
)

// mmioWindow is what one memory-mapped device occupies at least: a page, so
// that a guest can map each device alone.
const mmioWindow = 4 * kib

const (
	// pmemBaseAlign is what the first file that is persistent memory starts at a
	// multiple of, above all RAM that there is or can be.
	pmemBaseAlign = gib
	// pmemAlign is what each of them starts and ends at a multiple of: Linux
	// manages device memory by sections of that size.
	pmemAlign = 2 * mib
)

// ramRanges splits size bytes of RAM at the hole below holeEnd that the
// architecture keeps for devices.
func ramRanges(size, base, holeStart, holeEnd uint64) []guestmem.Range {
	low := min(size, holeStart-base)
	ranges := []guestmem.Range{{Base: guestmem.Addr(base), Size: low}}
	if size > low {
		ranges = append(ranges, guestmem.Range{Base: guestmem.Addr(holeEnd), Size: size - low})
	}
	return ranges
}
