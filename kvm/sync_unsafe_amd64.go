package kvm

import "unsafe"

// SetValidRegs sets kvm_run.kvm_valid_regs (CapSyncRegs): the classes of
// registers (SyncX86Regs...) that each Run leaves in SyncRegs, also when it
// fails.
func (v *VCPU) SetValidRegs(mask uint64) { v.page.validRegs = mask }

// ValidRegs is what SetValidRegs has set.
func (v *VCPU) ValidRegs() uint64 { return v.page.validRegs }

// SetDirtyRegs sets kvm_run.kvm_dirty_regs: the classes that the next Run takes
// from SyncRegs before all else. The kernel clears the bits.
func (v *VCPU) SetDirtyRegs(mask uint64) { v.page.dirtyRegs = mask }

// SyncRegs is the registers in the run page. They are the vCPU's after a Run
// with SetValidRegs, and become the vCPU's at the next Run after SetDirtyRegs.
func (v *VCPU) SyncRegs() *SyncRegs {
	// SAFETY: page.sync has room for a SyncRegs (layout_unsafe_amd64.go) at an
	// offset that is a multiple of 8; valid until Close.
	return (*SyncRegs)(unsafe.Pointer(&v.page.sync))
}
