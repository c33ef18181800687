package kvm

import (
	"fmt"
	"unsafe"
)

// Accesses that an MSRRange is about.
const (
	MSRFilterRead  = 1 << 0 // KVM_MSR_FILTER_READ
	MSRFilterWrite = 1 << 1 // KVM_MSR_FILTER_WRITE
)

// MSRRange rules the accesses of the kinds in Flags to the registers from Base
// on, one bit of Bitmap each, lowest bit first: "If a bit is set, the access is
// allowed", otherwise it is denied.
type MSRRange struct {
	Flags  uint32
	Base   uint32
	Count  uint32
	Bitmap []byte
}

// MSRFilter is an argument of SetMSRFilter. What no range covers is allowed, or
// denied when DefaultDeny is set.
type MSRFilter struct {
	DefaultDeny bool
	Ranges      []MSRRange // at most 16
}

// msrFilter is struct kvm_msr_filter.
type msrFilter struct {
	flags  uint32
	ranges [16]msrRange
}

// msrRange is struct kvm_msr_filter_range.
type msrRange struct {
	flags, n, base uint32
	bitmap         unsafe.Pointer
}

// maxMSRBitmap is KVM_MSR_FILTER_MAX_BITMAP_SIZE, in bytes.
const maxMSRBitmap = 0x600

// SetMSRFilter is KVM_X86_SET_MSR_FILTER (CapX86MSRFilter): "This ioctl allows
// userspace to define up to 16 bitmaps of MSR ranges to allow or deny guest MSR
// access." It replaces the filter before. A denied access is a #GP in the guest
// unless CapX86UserSpaceMSR was enabled with X86UserSpaceMSRFilter, when it
// exits. "x2APIC MSRs [...] are unaffected". It is slow: set it before running.
func (vm *VM) SetMSRFilter(f MSRFilter) error {
	var a msrFilter
	if f.DefaultDeny {
		a.flags = 1 << 0 // KVM_MSR_FILTER_DEFAULT_DENY
	}
	if len(f.Ranges) > len(a.ranges) {
		return fmt.Errorf("MSR filter: %d ranges, at most %d are possible", len(f.Ranges), len(a.ranges))
	}
	for i, r := range f.Ranges {
		if r.Count == 0 || r.Count > maxMSRBitmap*8 || uint64(len(r.Bitmap))*8 < uint64(r.Count) {
			return fmt.Errorf("MSR filter: range %#x+%d with a bitmap of %d bytes", r.Base, r.Count, len(r.Bitmap))
		}
		// The kernel reads whole longs.
		words := make([]uint64, (r.Count+63)/64)
		for j := range r.Bitmap[:(r.Count+7)/8] {
			words[j/8] |= uint64(r.Bitmap[j]) << (8 * (j % 8))
		}
		a.ranges[i] = msrRange{
			flags: r.Flags, n: r.Count, base: r.Base,
			// SAFETY: words is as long as the kernel reads, and stays alive
			// through this field.
			bitmap: unsafe.Pointer(unsafe.SliceData(words)),
		}
	}
	_, err := do(vm.fd, reqSetMSRFilter, &a)
	return err
}
