package kvm

import "encoding/binary"

// SetHypercallResult answers ExitHypercall on x86: the guest's RAX at the next
// Run. (On arm64 results are set in registers.)
func (v *VCPU) SetHypercallResult(ret uint64) { v.putUint64(56, ret) }

// SetMSRResult answers ExitX86RDMSR with data, and lets ExitX86WRMSR pass as
// done; where fault is set "a #GP is injected into the guest" instead.
func (v *VCPU) SetMSRResult(data uint64, fault bool) {
	v.putUint64(16, data)
	v.mem[offUnion] = 0
	if fault {
		v.mem[offUnion] = 1
	}
}

// SetXenResult answers ExitXen: the guest's RAX at the next Run.
func (v *VCPU) SetXenResult(ret uint64) { v.putUint64(24, ret) }

// putUint64 stores x at off in the union of the run page.
func (v *VCPU) putUint64(off int, x uint64) {
	binary.LittleEndian.PutUint64(v.mem[offUnion+off:], x)
}
