package vmm

import (
	"warder/devices/guestmem"
	"warder/kvm"
)

// TranslateByKVM has KVM translate an address: see kvm.VCPU.Translate.
func (v *VCPU) TranslateByKVM(va uint64) (pa guestmem.Addr, ok bool, err error) {
	at, ok, err := v.fd.Translate(va)
	return guestmem.Addr(at), ok, err
}

// SregsByKVM says whether the special registers that a hook is shown are those that
// KVM gives.
func (v *VCPU) SregsByKVM() (bool, error) {
	want, err := v.fd.GetSregs()
	if err != nil {
		return false, err
	}
	got, err := v.sregs()
	return *got == want, err
}

// SregsKept says whether they come without asking KVM.
func (v *VCPU) SregsKept() bool { return v.fd.ValidRegs()&kvm.SyncX86Sregs != 0 }
