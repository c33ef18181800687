package vmm

import "warder/devices/guestmem"

// TranslateByKVM has KVM translate an address: see kvm.VCPU.Translate.
func (v *VCPU) TranslateByKVM(va uint64) (pa guestmem.Addr, ok bool, err error) {
	at, ok, err := v.fd.Translate(va)
	return guestmem.Addr(at), ok, err
}
