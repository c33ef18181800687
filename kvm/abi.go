package kvm

// Structures of include/uapi/linux/kvm.h that only pass through this package.

// irqLevel is struct kvm_irq_level.
type irqLevel struct{ irq, level uint32 }

// irqFD is struct kvm_irqfd.
type irqFD struct {
	fd, gsi, flags, resampleFD uint32
	_                          [16]uint8
}

// ioEventFD is struct kvm_ioeventfd.
type ioEventFD struct {
	datamatch, addr uint64
	len             uint32
	fd              int32
	flags           uint32
	_               [36]uint8
}

// msi is struct kvm_msi.
type msi struct {
	addressLo, addressHi, data, flags, devID uint32
	_                                        [12]uint8
}

// irqRoute is struct kvm_irq_routing_entry; data is its union.
type irqRoute struct {
	gsi, typ, flags, _ uint32
	data               [8]uint32
}

// enableCap is struct kvm_enable_cap.
type enableCap struct {
	cap, flags uint32
	args       [4]uint64
	_          [64]uint8
}

// createDevice is struct kvm_create_device.
type createDevice struct{ typ, fd, flags uint32 }

// mpState is struct kvm_mp_state.
type mpState struct{ state uint32 }
