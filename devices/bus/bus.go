// Package bus routes a guest's accesses to the device at their address.
package bus

import (
	"cmp"
	"fmt"
	"slices"
	"sync"
)

// A Device answers accesses within its range, from the thread of the vCPU that
// makes them, several vCPUs at once. The access's offset and length come from
// the guest: off+len(p) is within the range, nothing else is promised.
type Device interface {
	// Read fills p with what is at offset off. All of p: what a device has no
	// register for reads as it decides, usually zero.
	Read(off uint64, p []byte)
	// Write takes p at offset off.
	Write(off uint64, p []byte)
}

// A Bus is an address space with devices in it: guest-physical memory or x86
// ports. The zero value is an empty bus. Devices may be added while it is used.
type Bus struct {
	mu     sync.RWMutex
	ranges []entry // by base, without overlap
}

type entry struct {
	base, size uint64
	dev        Device
}

func compare(e entry, addr uint64) int { return cmp.Compare(e.base, addr) }

// Add puts d at base, for size bytes. A range that is empty, wraps, or overlaps
// another device's is an error.
func (b *Bus) Add(base, size uint64, d Device) error {
	if size == 0 || base+size-1 < base {
		return fmt.Errorf("bus: range %#x+%#x is empty or wraps", base, size)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	i, found := slices.BinarySearchFunc(b.ranges, base, compare)
	overlap := found || i > 0 && base-b.ranges[i-1].base < b.ranges[i-1].size ||
		i < len(b.ranges) && b.ranges[i].base-base < size
	if overlap {
		return fmt.Errorf("bus: range %#x+%#x overlaps a device's", base, size)
	}
	b.ranges = slices.Insert(b.ranges, i, entry{base, size, d})
	return nil
}

// find is the device that has all n bytes at addr, and addr's offset in it.
func (b *Bus) find(addr uint64, n int) (Device, uint64) {
	b.mu.RLock()
	defer b.mu.RUnlock()
	i, found := slices.BinarySearchFunc(b.ranges, addr, compare)
	if !found {
		i--
	}
	if i < 0 {
		return nil, 0
	}
	e := b.ranges[i]
	if off := addr - e.base; off < e.size && uint64(n) <= e.size-off {
		return e.dev, off
	}
	return nil, 0
}

// Read reads len(p) bytes at addr. It reports whether there is one device that
// has all of them; if not, p is as it was.
func (b *Bus) Read(addr uint64, p []byte) bool {
	d, off := b.find(addr, len(p))
	if d == nil {
		return false
	}
	d.Read(off, p)
	return true
}

// Write writes p at addr. It reports whether there is one device that has all
// of the bytes; if not, nothing happened.
func (b *Bus) Write(addr uint64, p []byte) bool {
	d, off := b.find(addr, len(p))
	if d == nil {
		return false
	}
	d.Write(off, p)
	return true
}
