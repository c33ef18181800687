package hostinfo

import (
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Userfaultfd is how far this user may handle page faults in user space. KVM
// faults inside the kernel, so handling those has to be allowed.
type Userfaultfd struct {
	Kernel       bool `json:"kernel"`        // faults inside the kernel may be handled
	WriteProtect bool `json:"write_protect"` // of anonymous memory
	Shared       bool `json:"shared"`        // write protection of memfds too, which guest memory is
}

// From include/uapi/linux/userfaultfd.h.
const (
	uffdNew         = 0xaa00                                                  // USERFAULTFD_IOC_NEW on /dev/userfaultfd
	uffdAPI         = 3<<30 | unsafe.Sizeof(uffdioAPI{})<<16 | 0xaa<<8 | 0x3f // UFFDIO_API
	uffdVersion     = 0xaa
	uffdFeatureWP   = 1 << 0  // UFFD_FEATURE_PAGEFAULT_FLAG_WP
	uffdFeatureWPSh = 1 << 12 // UFFD_FEATURE_WP_HUGETLBFS_SHMEM
)

// uffdioAPI is struct uffdio_api.
type uffdioAPI struct{ api, features, ioctls uint64 }

var _ [24]byte = [unsafe.Sizeof(uffdioAPI{})]byte{}

func userfaultfd() (u Userfaultfd) {
	fd, ok := openUserfaultfd()
	if !ok {
		return u
	}
	defer unix.Close(fd)
	u.Kernel = true
	a := uffdioAPI{api: uffdVersion}
	// SAFETY: the kernel reads and writes the structure, whose size is in the
	// number; it is alive for the call.
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), uffdAPI, uintptr(unsafe.Pointer(&a))); errno != 0 {
		return u
	}
	u.WriteProtect = a.features&uffdFeatureWP != 0
	u.Shared = a.features&uffdFeatureWPSh != 0
	return u
}

// openUserfaultfd tries the system call, which wants a privilege, and then the
// device, which wants access to it.
func openUserfaultfd() (fd int, ok bool) {
	n, _, errno := unix.Syscall(unix.SYS_USERFAULTFD, unix.O_CLOEXEC|unix.O_NONBLOCK, 0, 0)
	if errno == 0 {
		return int(n), true
	}
	dev, err := os.OpenFile("/dev/userfaultfd", os.O_RDWR, 0)
	if err != nil {
		return 0, false
	}
	defer dev.Close()
	n, _, errno = unix.Syscall(unix.SYS_IOCTL, dev.Fd(), uffdNew, unix.O_CLOEXEC|unix.O_NONBLOCK)
	return int(n), errno == 0
}
