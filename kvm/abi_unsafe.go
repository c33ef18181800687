package kvm

import "unsafe"

// Structures of include/uapi/linux/kvm.h that hold a pointer. The pointers are
// unsafe.Pointer fields, not integers: what they point at stays alive, and a
// moving stack takes them along.

// memoryRegion is struct kvm_userspace_memory_region.
type memoryRegion struct {
	slot, flags     uint32
	guestPhys, size uint64
	userspaceAddr   unsafe.Pointer
}

// deviceAttr is struct kvm_device_attr.
type deviceAttr struct {
	_, group uint32 // "no flags currently defined"
	attr     uint64
	addr     unsafe.Pointer
}

// dirtyLog is struct kvm_dirty_log.
type dirtyLog struct {
	slot, _ uint32
	bitmap  unsafe.Pointer
}

// clearDirtyLog is struct kvm_clear_dirty_log.
type clearDirtyLog struct {
	slot, pages uint32
	first       uint64
	bitmap      unsafe.Pointer
}
