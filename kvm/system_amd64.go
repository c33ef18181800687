package kvm

import (
	"errors"

	"golang.org/x/sys/unix"
)

// SupportedCPUID is KVM_GET_SUPPORTED_CPUID (CapExtCPUID): "This ioctl returns
// x86 cpuid features which are supported by both the hardware and kvm in its
// default configuration. Userspace can use the information returned by this
// ioctl to construct cpuid information".
func (s *System) SupportedCPUID() ([]CPUIDEntry, error) {
	for n := 128; ; n *= 2 {
		entries := make([]CPUIDEntry, n)
		count, _, err := doList(s.fd, reqGetSupportedCPUID, entries)
		switch {
		case err == nil:
			return entries[:min(int(count), n)], nil
		case !errors.Is(err, unix.E2BIG) || n >= 4096:
			return nil, err
		}
	}
}

// MSRIndexList is KVM_GET_MSR_INDEX_LIST: "the guest msrs that are supported".
func (s *System) MSRIndexList() ([]uint32, error) {
	for n := uint32(256); ; n *= 2 {
		list := make([]uint32, 1+n) // struct kvm_msr_list: the number, then the indices
		list[0] = n
		_, err := do(s.fd, reqGetMSRIndexList, &list[0])
		switch {
		case err == nil:
			return list[1 : 1+min(list[0], n)], nil
		case !errors.Is(err, unix.E2BIG) || n >= 1<<16:
			return nil, err
		}
	}
}
