package kvm

import (
	"errors"
	"fmt"
	"sync"
)

// VM is one virtual machine: a guest-physical address space and what is in it.
// Its methods may be called from any goroutine.
type VM struct {
	attributes
	mapSize int // of a vCPU's shared region

	mu        sync.Mutex
	pages     map[uint32]uint64 // by slot, to bound what the kernel writes to a bitmap
	ringBytes int               // of a vCPU's dirty ring; 0 is none
}

// Flags of a memory slot.
const (
	MemLogDirtyPages = 1 << 0 // KVM_MEM_LOG_DIRTY_PAGES: "keep track of writes to memory within the slot"
	MemReadOnly      = 1 << 1 // KVM_MEM_READONLY: "writes to this memory will be posted to userspace as KVM_EXIT_MMIO exits" (CapReadOnlyMem)
)

// MemoryRegion is one memory slot: Size bytes of guest-physical memory at
// GuestPhys are Memory.
type MemoryRegion struct {
	Slot, Flags     uint32
	GuestPhys, Size uint64
	// Memory is mmapped memory (never the Go heap) that stays mapped for as long
	// as the slot is there; its length is Size. Nil deletes the slot.
	Memory []byte
}

// SetMemory is KVM_SET_USER_MEMORY_REGION: "create, modify or delete a guest
// physical memory slot". Addresses and sizes are multiples of the page size;
// slots must not overlap. Changing a slot's read-only flag is refused by the
// kernel (delete it and add it anew); MemLogDirtyPages may be changed in place.
//
// Errors: EEXIST for an overlap, EINVAL for a bad address, size or flag.
func (vm *VM) SetMemory(r MemoryRegion) error {
	if r.Memory == nil {
		r.Size = 0
	} else if uint64(len(r.Memory)) != r.Size {
		return fmt.Errorf("memory slot %d: size %#x differs from the %#x bytes of memory given", r.Slot, r.Size, len(r.Memory))
	}
	vm.mu.Lock()
	defer vm.mu.Unlock()
	m := newMemoryRegion(r)
	if _, err := do(vm.fd, reqSetMemory, &m); err != nil {
		return err
	}
	if r.Memory == nil {
		delete(vm.pages, r.Slot)
		return nil
	}
	if vm.pages == nil {
		vm.pages = map[uint32]uint64{}
	}
	vm.pages[r.Slot] = r.Size / pageSize
	return nil
}

// Check is KVM_CHECK_EXTENSION on the VM (CapCheckExtensionVM): "Based on their
// initialization different VMs may have different capabilities. It is thus
// encouraged to use the vm ioctl to query for capabilities".
func (vm *VM) Check(c Cap) (int, error) { return reqCheckExtension.call(vm.fd, uintptr(c)) }

// EnableCap is KVM_ENABLE_CAP on the VM: "Not all extensions are enabled by
// default. Using this ioctl the application can enable an extension". At most
// four arguments.
func (vm *VM) EnableCap(c Cap, flags uint32, args ...uint64) error {
	if err := enable(vm.fd, c, flags, args); err != nil {
		return err
	}
	if (c == CapDirtyLogRing || c == CapDirtyLogRingAcqRel) && len(args) > 0 {
		vm.mu.Lock()
		vm.ringBytes = int(args[0])
		vm.mu.Unlock()
	}
	return nil
}

func enable(fd int, c Cap, flags uint32, args []uint64) error {
	e := enableCap{cap: uint32(c), flags: flags}
	if len(args) > len(e.args) {
		return fmt.Errorf("enable %v: %d arguments, at most %d exist", c, len(args), len(e.args))
	}
	copy(e.args[:], args)
	if _, err := do(fd, reqEnableCap, &e); err != nil {
		return fmt.Errorf("enable %v: %w", c, err)
	}
	return nil
}

// CreateVCPU is KVM_CREATE_VCPU: "This API adds a vcpu to a virtual machine. No
// more than max_vcpus may be added." It also maps the region that the vCPU
// shares with the kernel, and its dirty ring where CapDirtyLogRing is enabled.
// On x86, id is the vCPU's APIC id.
func (vm *VM) CreateVCPU(id int) (*VCPU, error) {
	fd, err := reqCreateVCPU.call(vm.fd, uintptr(id))
	if err != nil {
		return nil, fmt.Errorf("vcpu %d: %w", id, err)
	}
	vm.mu.Lock()
	ringBytes := vm.ringBytes
	vm.mu.Unlock()
	v := &VCPU{attributes: attributes{fd}, id: id}
	if err := v.mapShared(vm.mapSize, ringBytes); err != nil {
		return nil, errors.Join(fmt.Errorf("vcpu %d: %w", id, err), v.Close())
	}
	return v, nil
}

// Close closes the descriptor. The kernel frees the VM when its vCPUs, devices
// and irqfds are gone too.
func (vm *VM) Close() error { return closeFD(&vm.fd) }
