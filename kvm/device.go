package kvm

import "fmt"

// DeviceType names an emulated device that the kernel has (KVM_DEV_TYPE_*).
type DeviceType uint32

// The device types of arm64, and VFIO.
const (
	DeviceVFIO    DeviceType = 4
	DeviceVGICv2  DeviceType = 5
	DeviceVGICv3  DeviceType = 7
	DeviceVGICITS DeviceType = 8
)

func (t DeviceType) String() string {
	switch t {
	case DeviceVFIO:
		return "VFIO"
	case DeviceVGICv2:
		return "VGIC_V2"
	case DeviceVGICv3:
		return "VGIC_V3"
	case DeviceVGICITS:
		return "VGIC_ITS"
	}
	return fmt.Sprintf("device type %d", uint32(t))
}

// CreateDeviceTest is KVM_CREATE_DEVICE_TEST: only say whether the type is
// supported. The Device returned is then nil.
const CreateDeviceTest = 1

// Device is a device emulated inside the kernel.
type Device struct{ attributes }

// CreateDevice is KVM_CREATE_DEVICE (CapDeviceCtrl): "Creates an emulated
// device in the kernel." Errors: "ENODEV: The device type is unknown or
// unsupported", "EEXIST: Device already created, and this type of device may
// not be instantiated multiple times".
func (vm *VM) CreateDevice(typ DeviceType, flags uint32) (*Device, error) {
	c := createDevice{typ: uint32(typ), flags: flags}
	if _, err := do(vm.fd, reqCreateDevice, &c); err != nil {
		return nil, fmt.Errorf("%v: %w", typ, err)
	}
	if flags&CreateDeviceTest != 0 {
		return nil, nil
	}
	return &Device{attributes{int(c.fd)}}, nil
}

// Close closes the descriptor; the device stays until its VM ends.
func (d *Device) Close() error { return closeFD(&d.fd) }

// attributes are the calls that devices, VMs and vCPUs
// (CapVCPUAttributes) have in common: an attribute is a value, found by a group
// and a number inside it, whose type the group's documentation tells
// (Documentation/virt/kvm/devices).
type attributes struct{ fd int }

// HasAttr is KVM_HAS_DEVICE_ATTR: "Tests whether a device supports a particular
// attribute."
func (a attributes) HasAttr(group uint32, attr uint64) bool {
	_, err := do(a.fd, reqHasDeviceAttr, &deviceAttr{group: group, attr: attr})
	return err == nil
}

// SetAttr is KVM_SET_DEVICE_ATTR for an attribute without a value: a command.
func (a attributes) SetAttr(group uint32, attr uint64) error {
	_, err := do(a.fd, reqSetDeviceAttr, &deviceAttr{group: group, attr: attr})
	return err
}

// SetAttrUint32 is KVM_SET_DEVICE_ATTR for an attribute of 32 bits.
func (a attributes) SetAttrUint32(group uint32, attr uint64, v uint32) error {
	return setAttr(a, group, attr, &v)
}

// SetAttrUint64 is KVM_SET_DEVICE_ATTR for an attribute of 64 bits.
func (a attributes) SetAttrUint64(group uint32, attr uint64, v uint64) error {
	return setAttr(a, group, attr, &v)
}

// GetAttrUint32 is KVM_GET_DEVICE_ATTR for an attribute of 32 bits.
func (a attributes) GetAttrUint32(group uint32, attr uint64) (v uint32, err error) {
	err = getAttr(a, group, attr, &v)
	return v, err
}

// GetAttrUint64 is KVM_GET_DEVICE_ATTR for an attribute of 64 bits.
func (a attributes) GetAttrUint64(group uint32, attr uint64) (v uint64, err error) {
	err = getAttr(a, group, attr, &v)
	return v, err
}
