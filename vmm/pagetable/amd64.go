package pagetable

import (
	"fmt"

	"warder/devices/guestmem"
)

// AMD64 is the registers that decide how an x86-64 CPU translates (Intel SDM
// volume 3A, chapter 5).
type AMD64 struct {
	CR0, CR3, CR4, EFER uint64
}

const (
	cr0PG   = 1 << 31
	cr4LA57 = 1 << 12
	eferLMA = 1 << 10
	eferNXE = 1 << 11

	pteP  = 1 << 0
	pteW  = 1 << 1
	pteU  = 1 << 2
	ptePS = 1 << 7
	pteNX = 1 << 63
)

// Space returns the address space. Without paging that is physical memory;
// paging outside long mode is not known.
func (r AMD64) Space() Space {
	switch {
	case r.CR0&cr0PG == 0:
		return everywhere(identity{})
	case r.EFER&eferLMA == 0:
		return everywhere(unknown{"x86 paging outside long mode"})
	}
	w := amd64Walk{root: mask(r.CR3, 51, 12), levels: 4, nx: r.EFER&eferNXE != 0}
	if r.CR4&cr4LA57 != 0 {
		w.levels = 5
	}
	return everywhere(w)
}

type amd64Walk struct {
	root   uint64
	levels int
	nx     bool
}

func (w amd64Walk) from(root guestmem.Addr) walker {
	w.root = mask(uint64(root), 51, 12)
	return w
}

func (w amd64Walk) translate(mem Reader, va uint64) (Mapping, error) {
	fault := func(level int, err error) (Mapping, error) {
		return Mapping{}, &FaultError{VA: va, Level: level, Err: err}
	}
	// Canonical: the bits that no level translates repeat the highest that one does.
	shift := 64 - (12 + 9*w.levels)
	if uint64(int64(va<<shift)>>shift) != va {
		return fault(w.levels, ErrAddress)
	}
	m := Mapping{Writable: true, User: true, Executable: true}
	table := w.root
	for level := w.levels; ; level-- {
		low := uint(12 + 9*(level-1)) // lowest bit of va that indexes this level
		pte, err := mem.LoadUint64(guestmem.Addr(table + 8*bits(va, low+8, low)))
		if err != nil {
			return fault(level, fmt.Errorf("%w: %w", ErrTable, err))
		}
		if pte&pteP == 0 {
			return fault(level, ErrNotPresent)
		}
		m.Writable = m.Writable && pte&pteW != 0
		m.User = m.User && pte&pteU != 0
		m.Executable = m.Executable && !(w.nx && pte&pteNX != 0)
		leaf := level == 1 || pte&ptePS != 0
		if leaf && level > 3 {
			return fault(level, fmt.Errorf("%w: page of level %d", ErrTable, level))
		}
		if leaf {
			m.PageSize = 1 << low
			m.Addr = guestmem.Addr(mask(pte, 51, low) | va&(m.PageSize-1))
			return m, nil
		}
		table = mask(pte, 51, 12)
	}
}
