package kvm

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"
)

// Path is where Linux puts the KVM device.
const Path = "/dev/kvm"

// APIVersion is the only version of the ABI there is: "This identifies the API
// version as the stable kvm API. It is not expected that this number will
// change. [...] Applications should refuse to run if KVM_GET_API_VERSION
// returns a value other than 12."
const APIVersion = 12

// ErrNotKVM is returned by Open for a path that exists but is not KVM.
var ErrNotKVM = errors.New("not the KVM device")

// System is /dev/kvm.
type System struct {
	fd      int
	mapSize int
}

// Open opens path, or [Path] when it is empty, and checks that KVM of the known
// version answers. The error says what a person can do about it; it wraps
// fs.ErrNotExist, fs.ErrPermission or ErrNotKVM.
func Open(path string) (*System, error) {
	if path == "" {
		path = Path
	}
	fi, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("%w: this machine offers no KVM: %s", err, HowTo)
	case err != nil:
		return nil, err
	case fi.Mode()&fs.ModeCharDevice == 0:
		return nil, fmt.Errorf("%s: %w: a character device is expected, this is %v", path, ErrNotKVM, fi.Mode().Type())
	}
	fd, err := unix.Open(path, unix.O_RDWR|unix.O_CLOEXEC, 0)
	switch {
	case errors.Is(err, fs.ErrPermission):
		return nil, fmt.Errorf("open %s: %w: add yourself to the group that owns it"+
			" (usermod -aG kvm $USER, then log in again), or run as root", path, err)
	case errors.Is(err, unix.ENXIO), errors.Is(err, unix.ENODEV):
		return nil, fmt.Errorf("open %s: %w: the device node is there, KVM is not: %s", path, err, HowTo)
	case err != nil:
		return nil, &os.PathError{Op: "open", Path: path, Err: err}
	}
	s := &System{fd: fd}
	if err := s.check(path); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

func (s *System) check(path string) error {
	v, err := s.APIVersion()
	if err != nil {
		return fmt.Errorf("%s: %w: %w", path, ErrNotKVM, err)
	}
	if v != APIVersion {
		return fmt.Errorf("%s: %w: it speaks API version %d, not %d", path, ErrNotKVM, v, APIVersion)
	}
	s.mapSize, err = s.VCPUMapSize()
	return err
}

// APIVersion is KVM_GET_API_VERSION. Open has checked that it is [APIVersion].
func (s *System) APIVersion() (int, error) { return reqGetAPIVersion.call(s.fd, 0) }

// Check is KVM_CHECK_EXTENSION: "Generally 0 means no and 1 means yes, but some
// extensions may report additional information in the integer return value."
// A capability that depends on the VM is asked of the VM: [VM.Check].
func (s *System) Check(c Cap) (int, error) { return reqCheckExtension.call(s.fd, uintptr(c)) }

// VCPUMapSize is KVM_GET_VCPU_MMAP_SIZE: "The KVM_RUN ioctl (cf.) communicates
// with userspace via a shared memory region. This ioctl returns the size of
// that region", in bytes. On x86 it is three pages: the run page, the data of
// port I/O, the ring of coalesced MMIO.
func (s *System) VCPUMapSize() (int, error) { return reqVCPUMapSize.call(s.fd, 0) }

// CreateVM is KVM_CREATE_VM. machineType is 0 for the default; on arm64 it is
// the number of bits of a guest-physical address (0 means 40), at most the
// value of CapARMVMIPASize.
func (s *System) CreateVM(machineType uint64) (*VM, error) {
	fd, err := reqCreateVM.call(s.fd, uintptr(machineType))
	if err != nil {
		return nil, err
	}
	return &VM{attributes: attributes{fd}, mapSize: s.mapSize}, nil
}

// Close closes the descriptor. VMs made from it live on.
func (s *System) Close() error { return closeFD(&s.fd) }

// closeFD closes *fd once: a descriptor number that was closed may be another
// file by the time of a second call.
func closeFD(fd *int) error {
	if *fd < 0 {
		return nil
	}
	old := *fd
	*fd = -1
	return os.NewSyscallError("close", unix.Close(old))
}
