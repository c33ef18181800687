package vmm

import "fmt"

// Access is what a [Watchpoint] watches for.
type Access int

const (
	// Execute is a hardware breakpoint.
	Execute Access = iota + 1
	Write
	Read // of loads alone; amd64 has it not
	ReadWrite
)

// A Watchpoint is a range of virtual addresses that the CPU's debug registers
// watch, in any address space.
type Watchpoint struct {
	Addr   uint64
	Len    uint64 // bytes; 1 for Execute
	Access Access
}

// A LimitError says that the CPU has too few debug registers, or none for such
// an access.
type LimitError struct {
	reason string
	err    error // errors.ErrUnsupported for an access that it never can watch for
}

func (e *LimitError) Error() string { return "vmm: " + e.reason }

// Unwrap returns errors.ErrUnsupported for an access that the CPU can't watch for.
func (e *LimitError) Unwrap() error { return e.err }

// SetWatchpoints sets all watchpoints that there are to be. The error is a
// *LimitError where the CPU's registers do not do.
func (d *Debugger) SetWatchpoints(w []Watchpoint) error {
	var split []Watchpoint
	for _, w := range w {
		parts, err := w.split()
		if err != nil {
			return err
		}
		split = append(split, parts...)
	}
	if err := d.m.checkWatchpoints(split); err != nil {
		return err
	}
	d.hardware = split
	return nil
}

// maxWatched is how much of memory a watchpoint is of: 16 registers of 8 bytes
// are the most that any CPU has.
const maxWatched = 128

// split takes a watchpoint apart into ranges that a register can watch.
func (w Watchpoint) split() (parts []Watchpoint, err error) {
	if w.Access == Execute {
		w.Len = 1
	}
	if w.Len == 0 || w.Len > maxWatched || w.Addr+w.Len-1 < w.Addr {
		return nil, &LimitError{reason: fmt.Sprintf("no watchpoint can be of %d bytes", w.Len)}
	}
	for at, left := w.Addr, w.Len; left > 0; {
		n := watchable(at, left)
		parts = append(parts, Watchpoint{at, n, w.Access})
		at, left = at+n, left-n
	}
	return parts, nil
}

// watchedAt is the watchpoint that an access to va was of, the nearest where the
// CPU does not say exactly. An access has 64 bytes at most.
func watchedAt(all []Watchpoint, va uint64) (w Watchpoint, ok bool) {
	nearest := uint64(64)
	for _, c := range all {
		if c.Access == Execute {
			continue
		}
		distance := uint64(0)
		switch {
		case va < c.Addr:
			distance = c.Addr - va
		case va >= c.Addr+c.Len:
			distance = va - (c.Addr + c.Len - 1)
		}
		if distance < nearest {
			w, ok, nearest = c, true, distance
		}
	}
	return w, ok
}
