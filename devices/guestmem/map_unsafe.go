package guestmem

import (
	"errors"
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// HugePage is what the kernel maps at once where it can, in bytes: a level of
// page tables above the pages of 4 KiB on both architectures.
const HugePage = 2 << 20

// Map maps size bytes of the file fd from off on, to be read and written. The
// address leaves the same remainder as off when it is divided by [HugePage],
// without which neither the kernel nor KVM maps a huge page. [Unmap] undoes it.
func Map(fd int, off int64, size uint64) ([]byte, error) {
	room := uintptr(size) + HugePage
	start, err := unix.MmapPtr(-1, 0, nil, room, unix.PROT_NONE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS|unix.MAP_NORESERVE)
	if err != nil {
		return nil, fmt.Errorf("reserve %d bytes of addresses: %w", room, err)
	}
	head := (uintptr(off) - uintptr(start)) % HugePage
	// SAFETY: head is less than HugePage, so at and the size bytes behind it are
	// inside the room that was just reserved, which nobody else knows of.
	at := unsafe.Add(start, head)
	_, err = unix.MmapPtr(fd, off, at, uintptr(size), unix.PROT_READ|unix.PROT_WRITE,
		unix.MAP_SHARED|unix.MAP_NORESERVE|unix.MAP_FIXED)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("map %d bytes: %w", size, err), unix.MunmapPtr(start, room))
	}
	var errs []error
	if head > 0 {
		errs = append(errs, unix.MunmapPtr(start, head))
	}
	if tail := HugePage - head; tail > 0 {
		// SAFETY: the tail of the room, from the end of the mapping on.
		errs = append(errs, unix.MunmapPtr(unsafe.Add(at, size), tail))
	}
	// SAFETY: size bytes are mapped at at, outside of Go's heap, until Unmap.
	return unsafe.Slice((*byte)(at), size), errors.Join(errs...)
}

// Unmap undoes Map, for all of what it returned.
func Unmap(b []byte) error {
	// SAFETY: b is a mapping that Map made; whoever used it has stopped.
	return unix.MunmapPtr(unsafe.Pointer(unsafe.SliceData(b)), uintptr(len(b)))
}
