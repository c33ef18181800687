package kvm

import (
	"errors"
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// oneReg is struct kvm_one_reg.
type oneReg struct {
	id   Reg
	addr unsafe.Pointer
}

// GetOneReg is KVM_GET_ONE_REG (CapOneReg) for a register of at most 64 bits.
// Errors: ENOENT for "no such register".
func (v *VCPU) GetOneReg(id Reg) (x uint64, err error) {
	if err := checkSize(id, 8); err != nil {
		return 0, err
	}
	// SAFETY: the kernel writes id.Size() bytes, at most the eight of x.
	_, err = do(v.fd, reqGetOneReg, &oneReg{id, unsafe.Pointer(&x)})
	return x, wrapReg(id, err)
}

// SetOneReg is KVM_SET_ONE_REG (CapOneReg) for a register of at most 64 bits.
func (v *VCPU) SetOneReg(id Reg, x uint64) error {
	if err := checkSize(id, 8); err != nil {
		return err
	}
	// SAFETY: the kernel reads id.Size() bytes, at most the eight of x.
	_, err := do(v.fd, reqSetOneReg, &oneReg{id, unsafe.Pointer(&x)})
	return wrapReg(id, err)
}

// GetOneRegBytes is GetOneReg for a register of any size; p has its size.
func (v *VCPU) GetOneRegBytes(id Reg, p []byte) error {
	if id.Size() != len(p) {
		return fmt.Errorf("register %#x has %d bytes, not %d", uint64(id), id.Size(), len(p))
	}
	// SAFETY: the kernel writes id.Size() bytes, which p has.
	_, err := do(v.fd, reqGetOneReg, &oneReg{id, unsafe.Pointer(unsafe.SliceData(p))})
	return wrapReg(id, err)
}

// SetOneRegBytes is SetOneReg for a register of any size; p has its size.
func (v *VCPU) SetOneRegBytes(id Reg, p []byte) error {
	if id.Size() != len(p) {
		return fmt.Errorf("register %#x has %d bytes, not %d", uint64(id), id.Size(), len(p))
	}
	// SAFETY: the kernel reads id.Size() bytes, which p has.
	_, err := do(v.fd, reqSetOneReg, &oneReg{id, unsafe.Pointer(unsafe.SliceData(p))})
	return wrapReg(id, err)
}

func checkSize(id Reg, limit int) error {
	if id.Size() > limit {
		return fmt.Errorf("register %#x has %d bytes: use GetOneRegBytes and SetOneRegBytes", uint64(id), id.Size())
	}
	return nil
}

func wrapReg(id Reg, err error) error {
	if err != nil {
		return fmt.Errorf("register %#x: %w", uint64(id), err)
	}
	return nil
}

// RegList is KVM_GET_REG_LIST: "This ioctl returns the guest registers that are
// supported for the KVM_GET_ONE_REG/KVM_SET_ONE_REG calls."
func (v *VCPU) RegList() ([]Reg, error) {
	var n uint64
	// The first call, with no room, says how much is needed.
	if _, err := do(v.fd, reqGetRegList, &n); err != nil && !errors.Is(err, unix.E2BIG) {
		return nil, err
	}
	list := make([]Reg, n)
	count, _, err := doList(v.fd, reqGetRegList, list)
	return list[:min(uint64(count), n)], err
}

// Init is KVM_ARM_VCPU_INIT: "This tells KVM what type of CPU to present to the
// guest, and what optional features it should have. This will cause a reset of
// the cpu registers to their initial values. If this is not called, KVM_RUN
// will return ENOEXEC for that vcpu." It may be called again, to reset the vCPU,
// with the same target and features (PowerOff may differ).
func (v *VCPU) Init(i VCPUInit) error {
	_, err := do(v.fd, reqVCPUInit, &i)
	return err
}

// Finalize is KVM_ARM_VCPU_FINALIZE: "Finalizes the configuration of the
// specified vcpu feature"; FeatureSVE is the one that needs it.
func (v *VCPU) Finalize(f VCPUFeature) error {
	what := int32(f)
	_, err := do(v.fd, reqVCPUFinalize, &what)
	return err
}
