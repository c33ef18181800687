package userfault

import (
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The ABI of include/uapi/linux/userfaultfd.h.
const (
	apiVersion = 0xaa

	featureFlagWP = 1 << 0  // UFFD_FEATURE_PAGEFAULT_FLAG_WP
	featureShmem  = 1 << 12 // UFFD_FEATURE_WP_HUGETLBFS_SHMEM

	registerWP  = 1 << 1 // UFFDIO_REGISTER_MODE_WP
	protectOn   = 1 << 0 // UFFDIO_WRITEPROTECT_MODE_WP
	pagefaultWP = 1 << 1 // UFFD_PAGEFAULT_FLAG_WP

	eventPagefault = 0x12 // UFFD_EVENT_PAGEFAULT
	messageSize    = 32   // struct uffd_msg: event, then flags at 8, address at 16
)

type apiArg struct{ API, Features, Ioctls uint64 }

type rangeArg struct{ Start, Len uint64 }

type registerArg struct {
	Range  rangeArg
	Mode   uint64
	Ioctls uint64
}

type protectArg struct {
	Range rangeArg
	Mode  uint64
}

var (
	_ [24]byte = [unsafe.Sizeof(apiArg{})]byte{}
	_ [32]byte = [unsafe.Sizeof(registerArg{})]byte{}
	_ [24]byte = [unsafe.Sizeof(protectArg{})]byte{}
)

// readWrite is _IOWR(0xAA, nr, size).
func readWrite(nr, size uintptr) uintptr { return 3<<30 | size<<16 | apiVersion<<8 | nr }

var (
	requestAPI          = readWrite(0x3f, unsafe.Sizeof(apiArg{}))
	requestRegister     = readWrite(0x00, unsafe.Sizeof(registerArg{}))
	requestWriteProtect = readWrite(0x06, unsafe.Sizeof(protectArg{}))
)

// argument is a structure that one of the requests takes.
type argument interface {
	apiArg | registerArg | protectArg
}

func ioctl[T argument](fd int, request uintptr, arg *T) error {
	// SAFETY: arg points to the structure whose size the request encodes; the
	// kernel does not keep the pointer.
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), request, uintptr(unsafe.Pointer(arg))); errno != 0 {
		return errno
	}
	return nil
}

// newFromDevice is USERFAULTFD_IOC_NEW of /dev/userfaultfd, _IO(0xAA, 0).
const newFromDevice = apiVersion << 8

// open makes a userfaultfd that also reports faults of the kernel's own
// accesses, as KVM's are: by the system call, else by the device.
func open() (int, error) {
	const flags = unix.O_CLOEXEC | unix.O_NONBLOCK
	fd, _, errno := unix.Syscall(unix.SYS_USERFAULTFD, flags, 0, 0)
	if errno == 0 {
		return int(fd), nil
	}
	dev, err := unix.Open("/dev/userfaultfd", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("userfault: not permitted: run with CAP_SYS_PTRACE, give access to /dev/userfaultfd, or set vm.unprivileged_userfaultfd=1: %w", errno)
	}
	defer unix.Close(dev)
	fd, _, errno = unix.Syscall(unix.SYS_IOCTL, uintptr(dev), newFromDevice, flags)
	if errno != 0 {
		return -1, fmt.Errorf("userfault: /dev/userfaultfd: %w", errno)
	}
	return int(fd), nil
}

func address(mem []byte) uintptr {
	// SAFETY: the address is only compared with those that the kernel reports
	// and handed back to it; mem is mapped memory, which Go never moves.
	return uintptr(unsafe.Pointer(unsafe.SliceData(mem)))
}
