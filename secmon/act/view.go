package act

import (
	"warder/devices/guestmem"
	"warder/vmm/pagetable"
)

// view reads a guest's memory by virtual address.
type view struct {
	space pagetable.Space
	mem   Memory
}

func (v view) ReadAt(p []byte, va uint64) error { return v.space.Read(v.mem, va, p) }

func address(a uint64) guestmem.Addr { return guestmem.Addr(a) }
