package trap_test

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// callStop is what struct ptrace_syscall_info says of a thread that stands at a
// call's begin (op 1) or end (op 2).
type callStop struct {
	op     uint8
	number uint64
	args   [6]uint64
	result int64
}

// syscallInfo is ptrace(PTRACE_GET_SYSCALL_INFO).
func syscallInfo(tid int) (callStop, error) {
	var raw struct {
		op      uint8
		_       [3]uint8
		arch    uint32
		pc, sp  uint64
		entered [7]uint64 // number and arguments, or the result
	}
	// SAFETY: the kernel writes at most the size that it is given, into raw,
	// which lives as long as the call.
	_, _, errno := unix.Syscall6(unix.SYS_PTRACE, unix.PTRACE_GET_SYSCALL_INFO, uintptr(tid), unsafe.Sizeof(raw), uintptr(unsafe.Pointer(&raw)), 0, 0)
	if errno != 0 {
		return callStop{}, errno
	}
	return callStop{op: raw.op, number: raw.entered[0], args: [6]uint64(raw.entered[1:]), result: int64(raw.entered[0])}, nil
}
