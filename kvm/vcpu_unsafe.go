package kvm

import (
	"errors"
	"iter"
	"os"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

// runPage is struct kvm_run, the head of the region shared with the kernel.
type runPage struct {
	// requestInterruptWindow, immediateExit and six bytes of padding; the first
	// word is only accessed atomically.
	control                            uint32
	_                                  uint32
	exitReason                         uint32
	readyForInterruptInjection, ifFlag uint8
	flags                              uint16
	cr8, apicBase                      uint64
	exit                               [exitSize]byte // the union
	validRegs, dirtyRegs               uint64
	sync                               [2048]byte // struct kvm_sync_regs, padded
}

const (
	exitSize = 256
	// immediateExit is byte 1 of the control word, on a little-endian machine.
	immediateExit = 1 << 8
	// dirtyRingPage is KVM_DIRTY_LOG_PAGE_OFFSET: where a vCPU's dirty ring is.
	dirtyRingPage = 64
)

// mapShared maps the region of size bytes and a dirty ring of ringBytes.
func (v *VCPU) mapShared(size, ringBytes int) error {
	if size < int(unsafe.Sizeof(runPage{})) {
		return errors.New("the kernel's run page is smaller than struct kvm_run")
	}
	mem, err := unix.Mmap(v.fd, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return os.NewSyscallError("mmap of the run page", err)
	}
	v.mem = mem
	// SAFETY: mem is page aligned, at least a runPage long (checked above), and
	// mapped until Close.
	v.page = (*runPage)(unsafe.Pointer(&mem[0]))
	if ringBytes == 0 {
		return nil
	}
	ring, err := unix.Mmap(v.fd, dirtyRingPage*int64(pageSize), ringBytes, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return os.NewSyscallError("mmap of the dirty ring", err)
	}
	// SAFETY: ring is page aligned and this many entries long.
	v.ring = unsafe.Slice((*dirtyGFN)(unsafe.Pointer(&ring[0])), ringBytes/int(unsafe.Sizeof(dirtyGFN{})))
	return nil
}

// Close unmaps the shared region and closes the descriptor. What Exit and
// SyncRegs returned is invalid then, and so is a call of SetImmediateExit.
func (v *VCPU) Close() error {
	var errs []error
	if v.mem != nil {
		errs = append(errs, unix.Munmap(v.mem))
	}
	if v.ring != nil {
		// SAFETY: the bytes of the mapping that v.ring was made from.
		errs = append(errs, unix.Munmap(unsafe.Slice((*byte)(unsafe.Pointer(&v.ring[0])), len(v.ring)*int(unsafe.Sizeof(v.ring[0])))))
	}
	v.mem, v.page, v.ring = nil, nil, nil
	return errors.Join(append(errs, closeFD(&v.fd))...)
}

// Run is KVM_RUN: "This ioctl is used to run a guest virtual cpu." It returns
// nil when the guest did something that user space has to handle; [VCPU.Exit]
// tells what. Otherwise it returns a bare errno, which costs no allocation:
//
//   - unix.EINTR: "an unmasked signal is pending", or immediate exit is set
//   - unix.EAGAIN: x86, the vCPU waits for a SIPI and was woken without one
//   - unix.ENOEXEC: arm64, "the vcpu hasn't been initialized"
//   - unix.ENOSYS: arm64, "data abort outside memslots with no syndrome info
//     and KVM_CAP_ARM_NISV_TO_USER not enabled"
//   - unix.EFAULT: guest memory that the host does not let KVM access
func (v *VCPU) Run() error {
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(v.fd), reqRun.nr, 0); errno != 0 {
		return errno
	}
	return nil
}

// SetImmediateExit sets or clears kvm_run.immediate_exit (CapImmediateExit):
// "This field is polled once when KVM_RUN starts; if non-zero, KVM_RUN exits
// immediately, returning -EINTR. In the common scenario where a signal is used
// to 'kick' a VCPU out of KVM_RUN, this field can be used to avoid usage of
// KVM_SET_SIGNAL_MASK [...]".
//
// It may be called from any thread. It does not wake a vCPU that is inside the
// guest: to kick one, queue the message, set the flag, then send the vCPU's
// thread a signal; clear the flag only after Run has returned EINTR, then take
// all messages. Any other order loses kicks.
func (v *VCPU) SetImmediateExit(on bool) {
	if on {
		atomic.OrUint32(&v.page.control, immediateExit)
	} else {
		atomic.AndUint32(&v.page.control, ^uint32(immediateExit))
	}
}

// Exit decodes why Run returned nil. The result and the slices in it are valid
// until the next call of Run or Exit.
func (v *VCPU) Exit() *Exit {
	v.exit.decode(v.mem)
	return &v.exit
}

// dirtyGFN is struct kvm_dirty_gfn, an entry of the dirty ring. "The userspace
// program is only responsible for the 01->1X state conversion after harvesting
// an entry. Also, it must not skip any dirty bits".
type dirtyGFN struct {
	flags, slot uint32
	offset      uint64
}

const (
	dirtyGFNDirty = 1 << 0
	dirtyGFNReset = 1 << 1
)

// DirtyPage is a page that the guest wrote: number Offset of memory slot Slot.
type DirtyPage struct {
	Slot   uint32
	Offset uint64
}

// DirtyPages harvests the vCPU's dirty ring (CapDirtyLogRing), oldest first.
// The kernel reuses the entries, and tracks their pages again, after
// [VM.ResetDirtyRings].
func (v *VCPU) DirtyPages() iter.Seq[DirtyPage] {
	return func(yield func(DirtyPage) bool) {
		for len(v.ring) > 0 {
			e := &v.ring[v.next]
			// The load orders the reads of slot and offset after it; the store
			// publishes that they have been read.
			if atomic.LoadUint32(&e.flags)&(dirtyGFNDirty|dirtyGFNReset) != dirtyGFNDirty {
				return
			}
			p := DirtyPage{e.slot, e.offset}
			atomic.StoreUint32(&e.flags, dirtyGFNReset)
			v.next = (v.next + 1) % len(v.ring)
			if !yield(p) {
				return
			}
		}
	}
}
