package vmm

import (
	"bytes"
	"errors"
	"fmt"

	"warder/devices/guestmem"
	"warder/vmm/icache"
	"warder/vmm/pagetable"
)

// ErrNoBreakpoints is what [Debugger.Break] gives where a debugger has hardware
// breakpoints alone.
var ErrNoBreakpoints = errors.New("vmm: this host's KVM does not tell of breakpoint instructions: use hardware breakpoints")

// Break puts a breakpoint instruction at the virtual address va of s. It is in
// all address spaces that have the page. The vCPUs stand still.
func (d *Debugger) Break(s pagetable.Space, va uint64) error {
	return d.withMemory(func() error { return d.insert(s, va) })
}

func (d *Debugger) insert(s pagetable.Space, va uint64) error {
	if !d.m.softwareBreaks() {
		return ErrNoBreakpoints
	}
	if d.breakAt(va) {
		return nil
	}
	if va%breakpointAlign != 0 {
		return fmt.Errorf("vmm: no instruction is at %#x", va)
	}
	b := breakpoint{old: make([]byte, len(breakpointCode))}
	m, err := s.Translate(d.m.mem, va)
	if err != nil {
		return err
	}
	b.at = m.Addr
	if err := d.m.mem.ReadAt(b.old, b.at); err != nil {
		return err
	}
	// Two addresses may be of one page.
	for _, other := range d.breaks {
		if other.at == b.at {
			b.old = other.old
		}
	}
	if err := d.patch(breakpointCode, b.at); err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.breaks[va] = b
	return nil
}

// Unbreak puts back the instruction that was at va before [Debugger.Break].
func (d *Debugger) Unbreak(va uint64) error {
	return d.withMemory(func() error { return d.remove(va) })
}

func (d *Debugger) remove(va uint64) error {
	d.mu.Lock()
	b, ok := d.breaks[va]
	delete(d.breaks, va)
	d.mu.Unlock()
	if !ok {
		return nil
	}
	for _, other := range d.breaks {
		if other.at == b.at {
			return nil
		}
	}
	now := make([]byte, len(b.old))
	if err := d.m.mem.ReadAt(now, b.at); err != nil {
		return err
	}
	if !bytes.Equal(now, breakpointCode) {
		return nil // the guest has put something else there
	}
	return d.patch(b.old, b.at)
}

// patch writes code that no vCPU executes now.
func (d *Debugger) patch(code []byte, at guestmem.Addr) error {
	if err := (patched{d.m.mem, d.m.patches}).WriteAt(code, at); err != nil {
		return err
	}
	p, err := d.m.mem.Slice(at, uint64(len(code)))
	if err != nil {
		return err
	}
	icache.Sync(p)
	return nil
}

// Read reads guest memory by virtual address as if there were no breakpoint
// instructions in it, and returns how much it could: less than p where a page
// is not mapped, with the error of that page.
func (d *Debugger) Read(s pagetable.Space, va uint64, p []byte) (n int, err error) {
	err = d.withMemory(func() error { return d.read(s, va, p, &n) })
	return n, err
}

func (d *Debugger) read(s pagetable.Space, va uint64, p []byte, n *int) error {
	return d.pages(s, va, p, func(at guestmem.Addr, part []byte) error {
		if err := d.m.mem.ReadAt(part, at); err != nil {
			return err
		}
		for _, b := range d.breaks {
			overlay(part, at, b.old, b.at)
		}
		*n += len(part)
		return nil
	})
}

// Write writes guest memory by virtual address, whatever the protection of its
// pages, under the breakpoint instructions that are in it.
func (d *Debugger) Write(s pagetable.Space, va uint64, p []byte) error {
	p = bytes.Clone(p)
	return d.withMemory(func() error {
		return d.pages(s, va, p, func(at guestmem.Addr, part []byte) error {
			for _, b := range d.breaks {
				overlay(b.old, b.at, part, at)
			}
			for _, b := range d.breaks {
				overlay(part, at, breakpointCode, b.at)
			}
			return d.patch(part, at)
		})
	})
}

// Maps says whether s maps va.
func (d *Debugger) Maps(s pagetable.Space, va uint64) bool {
	return d.withMemory(func() error {
		_, err := s.Translate(d.m.mem, va)
		return err
	}) == nil
}

// withMemory runs f while the machine is not closed.
func (d *Debugger) withMemory(f func() error) error {
	d.using.Lock()
	defer d.using.Unlock()
	if d.gone {
		return errEnded
	}
	return f()
}

// endDebug keeps the machine's debugger, if there is one, from its memory.
func (m *Machine) endDebug() {
	if d := m.debugger.Load(); d != nil {
		d.using.Lock()
		defer d.using.Unlock()
		d.gone = true
	}
}

// pages calls f for each part of p that lies in one page, with its address.
func (d *Debugger) pages(s pagetable.Space, va uint64, p []byte, f func(guestmem.Addr, []byte) error) error {
	for len(p) > 0 {
		m, err := s.Translate(d.m.mem, va)
		if err != nil {
			return err
		}
		n := min(uint64(len(p)), m.PageSize-uint64(m.Addr)%m.PageSize)
		if err := f(m.Addr, p[:n]); err != nil {
			return err
		}
		va, p = va+n, p[n:]
	}
	return nil
}

// overlay copies what over has of the bytes that dst is of.
func overlay(dst []byte, at guestmem.Addr, over []byte, overAt guestmem.Addr) {
	for i, b := range over {
		if off := overAt + guestmem.Addr(i) - at; off < guestmem.Addr(len(dst)) {
			dst[off] = b
		}
	}
}
