package vmm

import (
	"errors"

	"golang.org/x/sys/unix"
)

// settle completes the instruction that the latest exit was in the middle of,
// and runs none after it: what an access to a device reads reaches its register,
// and the program counter goes past it. KVM does so at the next KVM_RUN, whatever
// registers have been set to meanwhile. (Documentation/virt/kvm/api.rst, KVM_RUN:
// "userspace can re-enter the guest with an unmasked signal pending or with the
// immediate_exit field set to complete pending operations without allowing
// further instructions to be executed.")
func (v *VCPU) settle() {
	if v.debug.settling || v.debug.trapping {
		return
	}
	v.debug.settling = true
	defer func() { v.debug.settling = false }()
	for !v.m.hasEnded() {
		v.fd.SetImmediateExit(true)
		switch err := v.fd.Run(); {
		case err == nil: // an access in several parts
			if exit := v.handle(); exit != nil {
				v.m.end(*exit)
			}
			continue
		case errors.Is(err, unix.EINTR), errors.Is(err, unix.EAGAIN):
		default:
			v.m.end(*v.crash(runError(err)))
		}
		break
	}
	// As in loop: whoever kicked meanwhile has left a message, and all are looked
	// at before the next KVM_RUN.
	v.fd.SetImmediateExit(false)
	v.endStep()
}
