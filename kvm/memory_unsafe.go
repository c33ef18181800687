package kvm

import (
	"fmt"
	"os"
	"unsafe"
)

var pageSize = uint64(os.Getpagesize())

func newMemoryRegion(r MemoryRegion) memoryRegion {
	return memoryRegion{
		slot: r.Slot, flags: r.Flags, guestPhys: r.GuestPhys, size: r.Size,
		// SAFETY: the caller owns this mapping and keeps it for the life of the
		// slot (MemoryRegion.Memory). Nil for a slot that is deleted.
		userspaceAddr: unsafe.Pointer(unsafe.SliceData(r.Memory)),
	}
}

func setAttr[T any](a attributes, group uint32, attr uint64, v *T) error {
	// SAFETY: v outlives the call; group and attr define that it points at a T.
	_, err := do(a.fd, reqSetDeviceAttr, &deviceAttr{group: group, attr: attr, addr: unsafe.Pointer(v)})
	return err
}

func getAttr[T any](a attributes, group uint32, attr uint64, v *T) error {
	// SAFETY: as in setAttr.
	_, err := do(a.fd, reqGetDeviceAttr, &deviceAttr{group: group, attr: attr, addr: unsafe.Pointer(v)})
	return err
}

// GetDirtyLog is KVM_GET_DIRTY_LOG: "Given a memory slot, return a bitmap
// containing any pages dirtied since the last call to this ioctl. Bit 0 is the
// first page in the memory slot." It also starts the tracking anew, except with
// CapManualDirtyLogProtect2, where ClearDirtyLog does that. Writes by user
// space are not seen. bitmap has a bit for each page of the slot, or more.
func (vm *VM) GetDirtyLog(slot uint32, bitmap []uint64) error {
	vm.mu.Lock()
	defer vm.mu.Unlock()
	if err := vm.checkBitmap(slot, 0, vm.pages[slot], bitmap); err != nil {
		return err
	}
	// SAFETY: the kernel writes one bit for each page of the slot, rounded up to
	// 64; checkBitmap has seen that bitmap is that long, and vm.mu keeps the
	// slot from growing meanwhile.
	_, err := do(vm.fd, reqGetDirtyLog, &dirtyLog{slot: slot, bitmap: unsafe.Pointer(unsafe.SliceData(bitmap))})
	return err
}

// ClearDirtyLog is KVM_CLEAR_DIRTY_LOG (CapManualDirtyLogProtect2): "This ioctl
// clears the dirty status of pages in a memory slot, according to the bitmap
// [...]. Bit 0 of the bitmap corresponds to page first_page in the memory
// slot, and num_pages is the size in bits of the input bitmap. first_page must
// be a multiple of 64; num_pages must also be a multiple of 64 unless
// first_page + num_pages is the size of the memory slot."
func (vm *VM) ClearDirtyLog(slot uint32, first uint64, pages uint32, bitmap []uint64) error {
	vm.mu.Lock()
	defer vm.mu.Unlock()
	if err := vm.checkBitmap(slot, first, uint64(pages), bitmap); err != nil {
		return err
	}
	// SAFETY: the kernel reads pages bits, rounded up to 64; see checkBitmap.
	_, err := do(vm.fd, reqClearDirtyLog, &clearDirtyLog{
		slot: slot, pages: pages, first: first, bitmap: unsafe.Pointer(unsafe.SliceData(bitmap)),
	})
	return err
}

func (vm *VM) checkBitmap(slot uint32, first, pages uint64, bitmap []uint64) error {
	size, ok := vm.pages[slot]
	switch {
	case !ok:
		return fmt.Errorf("memory slot %d is not there", slot)
	case first > size || pages > size-first:
		return fmt.Errorf("memory slot %d has %d pages, not %d+%d", slot, size, first, pages)
	case uint64(len(bitmap))*64 < pages:
		return fmt.Errorf("memory slot %d: a bitmap of %d bits for %d pages", slot, len(bitmap)*64, pages)
	}
	return nil
}

// ResetDirtyRings is KVM_RESET_DIRTY_RINGS: tells the kernel to take back the
// entries that were harvested (see [VCPU.DirtyPages]) and to track their pages
// again. It returns their number.
func (vm *VM) ResetDirtyRings() (int, error) { return reqResetDirtyRings.call(vm.fd, 0) }
