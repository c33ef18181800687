package trap

import (
	"warder/devices/guestmem"
	"warder/secmon/introspect"
	"warder/vmm/pagetable"
)

// pages reads a guest's memory through the address space of a vCPU, for one hit. The
// half that programs have is asked for when something of it is.
type pages struct {
	*pagetable.TLB
	mem   Memory
	cpu   CPU
	whole bool
}

// begin begins a hit.
func (p *pages) begin(cpu CPU, s pagetable.Space) {
	p.cpu, p.whole = cpu, s.Whole()
	p.Reset(s)
}

// complete gets the half that programs have, if an address is in it. Where that is not to
// be had nothing is mapped there.
func (p *pages) complete(va uint64) {
	if pagetable.InKernel(va) {
		return
	}
	p.whole = true
	if s, err := p.cpu.WholeSpace(); err == nil {
		p.Complete(s)
	}
}

// Page implements introspect.Pages.
func (p *pages) Page(va uint64) ([]byte, error) {
	if !p.whole {
		p.complete(va)
	}
	return p.TLB.Page(va)
}

// Uint64 implements introspect.Pages.
func (p *pages) Uint64(va uint64) (uint64, bool) {
	if !p.whole {
		p.complete(va)
	}
	return p.TLB.Uint64(va)
}

// ReadAt implements introspect.View.
func (p *pages) ReadAt(b []byte, va uint64) error {
	if !p.whole {
		p.complete(va)
	}
	return p.TLB.ReadAt(b, va)
}

// Physical implements introspect.Spaces.
func (p *pages) Physical(va uint64) (guestmem.Addr, error) {
	if !p.whole {
		p.complete(va)
	}
	return p.Translate(va)
}

// Of implements introspect.Spaces.
func (p *pages) Of(tables guestmem.Addr) introspect.Spaces {
	if !p.whole {
		p.complete(0)
	}
	return view{p.Space().User(tables), p.mem}
}

// view reads a guest's memory through one address space.
type view struct {
	space pagetable.Space
	mem   Memory
}

func (v view) ReadAt(p []byte, va uint64) error { return v.space.Read(v.mem, va, p) }

// Physical implements introspect.Spaces.
func (v view) Physical(va uint64) (guestmem.Addr, error) {
	m, err := v.space.Translate(v.mem, va)
	return m.Addr, err
}

// Of implements introspect.Spaces.
func (v view) Of(tables guestmem.Addr) introspect.Spaces {
	return view{v.space.User(tables), v.mem}
}

// assume takes note of how the kernel's addresses are translated. Where its half of the
// address space is its own that does not change.
func (d *decoder) assume(space pagetable.Space) {
	if space.Whole() || space == d.kernel {
		return
	}
	if d.kernel != (pagetable.Space{}) && !d.h.moved.Swap(true) {
		notice(d.armed.clients, movedKernel)
	}
	d.kernel = space
}

const movedKernel = "the guest's kernel has come to translate its own addresses by other tables: a few calls before this may have been reported by the earlier ones"

// mistaken says whether a vCPU did not translate addresses as was assumed.
func (d *decoder) mistaken() bool {
	if d.kernel == (pagetable.Space{}) {
		return false
	}
	space, err := d.cpu.KernelSpace(true)
	return err == nil && space != d.kernel
}
