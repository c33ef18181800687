package trap_test

import (
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// execve is the bare system call, with neither arguments nor environment.
func execve(path *byte) error {
	// SAFETY: the conversion is in the argument list of the call, which keeps
	// what path points to.
	_, _, errno := syscall.RawSyscall(unix.SYS_EXECVE, uintptr(unsafe.Pointer(path)), 0, 0)
	return errno
}
