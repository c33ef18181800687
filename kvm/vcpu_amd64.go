package kvm

import "fmt"

// GetRegs is KVM_GET_REGS: "Reads the general purpose registers from the vcpu."
func (v *VCPU) GetRegs() (r Regs, err error) {
	_, err = do(v.fd, reqGetRegs, &r)
	return r, err
}

// SetRegs is KVM_SET_REGS: "Writes the general purpose registers into the vcpu."
func (v *VCPU) SetRegs(r *Regs) error {
	_, err := do(v.fd, reqSetRegs, r)
	return err
}

// GetSregs is KVM_GET_SREGS: "Reads special registers from the vcpu."
func (v *VCPU) GetSregs() (s Sregs, err error) {
	_, err = do(v.fd, reqGetSregs, &s)
	return s, err
}

// SetSregs is KVM_SET_SREGS.
func (v *VCPU) SetSregs(s *Sregs) error {
	_, err := do(v.fd, reqSetSregs, s)
	return err
}

// GetFPU is KVM_GET_FPU: "Reads the floating point state from the vcpu."
func (v *VCPU) GetFPU() (f FPU, err error) {
	_, err = do(v.fd, reqGetFPU, &f)
	return f, err
}

// SetFPU is KVM_SET_FPU.
func (v *VCPU) SetFPU(f *FPU) error {
	_, err := do(v.fd, reqSetFPU, f)
	return err
}

// GetMSRs is KVM_GET_MSRS: "Reads model-specific registers from the vcpu." It
// fills in the Data of entries, in order, and returns how many it did: where
// that is less, entries[n] is a register the vCPU has not.
func (v *VCPU) GetMSRs(entries []MSREntry) (n int, err error) {
	_, n, err = doList(v.fd, reqGetMSRs, entries)
	return n, err
}

// SetMSRs is KVM_SET_MSRS: "Writes model-specific registers to the vcpu."
// Unlike the ioctl it fails when an entry could not be set.
func (v *VCPU) SetMSRs(entries []MSREntry) error {
	_, n, err := doList(v.fd, reqSetMSRs, entries)
	if err == nil && n < len(entries) {
		err = fmt.Errorf("KVM_SET_MSRS: register %#x refused", entries[n].Index)
	}
	return err
}

// SetCPUID2 is KVM_SET_CPUID2 (CapExtCPUID): "Defines the vcpu responses to the
// cpuid instruction." To be set before the first Run.
func (v *VCPU) SetCPUID2(entries []CPUIDEntry) error {
	_, _, err := doList(v.fd, reqSetCPUID2, entries)
	return err
}

// GetCPUID2 is KVM_GET_CPUID2; at most max entries.
func (v *VCPU) GetCPUID2(max int) ([]CPUIDEntry, error) {
	entries := make([]CPUIDEntry, max)
	n, _, err := doList(v.fd, reqGetCPUID2, entries)
	return entries[:min(int(n), max)], err
}

// GetLAPIC is KVM_GET_LAPIC (CapIRQChip): "Reads the Local APIC registers".
func (v *VCPU) GetLAPIC() (l LAPIC, err error) {
	_, err = do(v.fd, reqGetLAPIC, &l)
	return l, err
}

// SetLAPIC is KVM_SET_LAPIC.
func (v *VCPU) SetLAPIC(l *LAPIC) error {
	_, err := do(v.fd, reqSetLAPIC, l)
	return err
}

// NMI is KVM_NMI (CapUserNMI): "Queues an NMI on the thread's vcpu."
func (v *VCPU) NMI() error {
	_, err := reqNMI.call(v.fd, 0)
	return err
}

// GetDebugRegs is KVM_GET_DEBUGREGS (CapDebugRegs).
func (v *VCPU) GetDebugRegs() (d DebugRegs, err error) {
	_, err = do(v.fd, reqGetDebugRegs, &d)
	return d, err
}

// SetDebugRegs is KVM_SET_DEBUGREGS.
func (v *VCPU) SetDebugRegs(d *DebugRegs) error {
	_, err := do(v.fd, reqSetDebugRegs, d)
	return err
}

// GetTSCKHz is KVM_GET_TSC_KHZ (CapGetTSCKHz): "Returns the tsc frequency of the
// guest", in kHz.
func (v *VCPU) GetTSCKHz() (int, error) { return reqGetTSCKHz.call(v.fd, 0) }

// SetTSCKHz is KVM_SET_TSC_KHZ (CapTSCControl).
func (v *VCPU) SetTSCKHz(khz int) error {
	_, err := reqSetTSCKHz.call(v.fd, uintptr(khz))
	return err
}

// GetXSAVE is KVM_GET_XSAVE (CapXSAVE).
func (v *VCPU) GetXSAVE() (*XSAVE, error) {
	x := new(XSAVE)
	_, err := do(v.fd, reqGetXSAVE, x)
	return x, err
}

// SetXSAVE is KVM_SET_XSAVE.
func (v *VCPU) SetXSAVE(x *XSAVE) error {
	_, err := do(v.fd, reqSetXSAVE, x)
	return err
}

// GetXCRS is KVM_GET_XCRS (CapXCRS).
func (v *VCPU) GetXCRS() (x XCRS, err error) {
	_, err = do(v.fd, reqGetXCRS, &x)
	return x, err
}

// SetXCRS is KVM_SET_XCRS.
func (v *VCPU) SetXCRS(x *XCRS) error {
	_, err := do(v.fd, reqSetXCRS, x)
	return err
}

// Translate is KVM_TRANSLATE: "Translates a virtual address according to the
// vcpu's current address translation mode." ok is false where nothing is mapped.
// It sets the accessed bit in the guest's page tables.
func (v *VCPU) Translate(linear uint64) (physical uint64, ok bool, err error) {
	t := translation{linear: linear}
	_, err = do(v.fd, reqTranslate, &t)
	return t.physical, t.valid != 0, err
}
