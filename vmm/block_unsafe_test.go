package vmm_test

import (
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// blockRange is an ioctl of a block device about n bytes from off.
func blockRange(f *os.File, request uint, off, n uint64) error {
	extent := [2]uint64{off, n}
	// SAFETY: BLKDISCARD and BLKZEROOUT read two 64-bit words, which live past the call.
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, f.Fd(), uintptr(request), uintptr(unsafe.Pointer(&extent))); errno != 0 {
		return errno
	}
	return nil
}
