package pagetable

import (
	"fmt"

	"warder/devices/guestmem"
)

// ARM64 is the registers that decide how an arm64 CPU translates at EL1 and EL0,
// stage 1 (Arm ARM DDI 0487, chapter D8).
type ARM64 struct {
	SCTLR, TTBR0, TTBR1, TCR uint64
}

const (
	sctlrM = 1 << 0

	tcrEPD0 = 1 << 7
	tcrEPD1 = 1 << 23
	tcrTBI0 = 1 << 37
	tcrTBI1 = 1 << 38
	tcrHPD0 = 1 << 41
	tcrHPD1 = 1 << 42
	tcrDS   = 1 << 59 // LPA2: 52 bits with 4K and 16K granules

	tcrIPS52 = 6 // TCR.IPS: 52-bit output addresses

	descValid = 1 << 0
	descTable = 1 << 1 // or page, at level 3
	descUser  = 1 << 6 // AP[1]
	descRO    = 1 << 7 // AP[2]
	descPXN   = 1 << 53
	descUXN   = 1 << 54

	tablePXN    = 1 << 59
	tableUXN    = 1 << 60
	tableNoUser = 1 << 61 // APTable[0]
	tableRO     = 1 << 62 // APTable[1]
)

// Space returns the address space. With the MMU off that is physical memory.
func (r ARM64) Space() Space {
	s := r.KernelSpace()
	if s.Whole() {
		return s
	}
	s.low = arm64Half{
		base:     r.TTBR0,
		granule:  granule0(bits(r.TCR, 15, 14)),
		size:     64 - uint(bits(r.TCR, 5, 0)),
		disabled: r.TCR&tcrEPD0 != 0,
		tbi:      r.TCR&tcrTBI0 != 0,
		flat:     r.TCR&tcrHPD0 != 0,
	}.with(r.TCR)
	return s
}

// KernelSpace returns the address space without the half that TTBR0 is for,
// which may be anything. Two are the same where only the number of an address
// space in TTBR1 (ASID) differs. With the MMU off it is all of physical memory.
func (r ARM64) KernelSpace() Space {
	if r.SCTLR&sctlrM == 0 {
		return everywhere(identity{})
	}
	return Space{high: arm64Half{
		kernel:   true,
		base:     r.TTBR1,
		granule:  granule1(bits(r.TCR, 31, 30)),
		size:     64 - uint(bits(r.TCR, 21, 16)),
		disabled: r.TCR&tcrEPD1 != 0,
		tbi:      r.TCR&tcrTBI1 != 0,
		flat:     r.TCR&tcrHPD1 != 0,
	}.with(r.TCR)}
}

// with completes a half by what TCR says of both.
func (h arm64Half) with(tcr uint64) arm64Half {
	h.lpa2 = tcr&tcrDS != 0 && h.granule != 16
	h.lpa = bits(tcr, 34, 32) == tcrIPS52 && h.granule == 16
	h.base = mask(h.base, 47, 1) // neither ASID nor CnP
	return h
}

// granule0 decodes TCR.TG0 to the number of address bits in a granule, 0 where
// it is reserved.
func granule0(tg uint64) uint { return [4]uint{12, 16, 14, 0}[tg] }

// granule1 decodes TCR.TG1.
func granule1(tg uint64) uint { return [4]uint{0, 14, 12, 16}[tg] }

// arm64Half is the half of the address space that one TTBR translates.
type arm64Half struct {
	kernel   bool // TTBR1's: the untranslated bits of its addresses are 1
	base     uint64
	granule  uint // address bits in a granule
	size     uint // address bits translated
	disabled bool
	tbi      bool // the top byte is ignored
	flat     bool // table descriptors' permissions are ignored
	lpa      bool // 52-bit physical addresses, 64K granule
	lpa2     bool // 52-bit physical addresses, smaller granules
}

// from encodes an address as TTBR0_EL1 and TTBR1_EL1 hold it. A walk that is
// disabled at the moment, as while the kernel runs on another's tables, is not
// from these.
func (h arm64Half) from(root guestmem.Addr) walker {
	h.base, h.disabled = mask(uint64(root), 47, 6), false
	if h.lpa || h.lpa2 {
		h.base |= bits(uint64(root), 51, 48) << 2
	}
	return h
}

func (h arm64Half) translate(mem Reader, va uint64) (Mapping, error) {
	fault := func(level int, err error) (Mapping, error) {
		return Mapping{}, &FaultError{VA: va, Level: level, Err: err}
	}
	g, perLevel := h.granule, h.granule-3
	largest := uint(48)
	if h.lpa2 || g == 16 {
		largest = 52
	}
	switch {
	case h.disabled:
		return fault(0, fmt.Errorf("%w: walks are disabled", ErrAddress))
	case g == 0 || h.size <= g || h.size > largest:
		return fault(0, fmt.Errorf("%w: arm64 granule of %d bits for %d-bit addresses", ErrMode, g, h.size))
	}
	top := uint(63)
	if h.tbi {
		top = 55
	}
	sign := uint64(0)
	if h.kernel {
		sign = ^sign
	}
	if bits(va, top, h.size) != bits(sign, top, h.size) {
		return fault(0, ErrAddress)
	}

	levels := (h.size - g + perLevel - 1) / perLevel
	level := 4 - int(levels)
	high := h.size - 1 // highest bit of va that indexes this level
	table := h.root(levels)
	user, readOnly, pxn, uxn := true, false, false, false
	for ; ; level++ {
		low := g + uint(3-level)*perLevel
		desc, err := mem.LoadUint64(guestmem.Addr(table + 8*bits(va, high, low)))
		if err != nil {
			return fault(level, fmt.Errorf("%w: %w", ErrTable, err))
		}
		if desc&descValid == 0 {
			return fault(level, ErrNotPresent)
		}
		if level < 3 && desc&descTable != 0 {
			if !h.flat {
				user = user && desc&tableNoUser == 0
				readOnly = readOnly || desc&tableRO != 0
				pxn = pxn || desc&tablePXN != 0
				uxn = uxn || desc&tableUXN != 0
			}
			table, high = h.output(desc, g), low-1
			continue
		}
		if level == 3 && desc&descTable == 0 || level < h.firstBlock() {
			return fault(level, fmt.Errorf("%w: block of level %d", ErrTable, level))
		}
		m := Mapping{
			PageSize: 1 << low,
			User:     user && desc&descUser != 0,
			Writable: !readOnly && desc&descRO == 0,
		}
		m.Addr = guestmem.Addr(h.output(desc, low) | va&(m.PageSize-1))
		m.Executable = !pxn && desc&descPXN == 0
		if m.User {
			m.Executable = !uxn && desc&descUXN == 0
		}
		return m, nil
	}
}

// firstBlock returns the lowest level at which a block may stand.
func (h arm64Half) firstBlock() int {
	switch {
	case h.granule == 12 && h.lpa2:
		return 0
	case h.granule == 12, h.granule == 14 && h.lpa2, h.lpa:
		return 1
	}
	return 2
}

// root returns the address of the first table.
func (h arm64Half) root(levels uint) uint64 {
	index := h.size - h.granule - (levels-1)*(h.granule-3) // bits
	if h.lpa || h.lpa2 {
		// Bits 5:2 hold address bits 51:48; the table is aligned to 64 bytes at least.
		return mask(h.base, 47, max(index+3, 6)) | bits(h.base, 5, 2)<<48
	}
	return mask(h.base, 47, index+3)
}

// output returns the address in a descriptor whose address bits below low are 0.
func (h arm64Half) output(desc uint64, low uint) uint64 {
	switch {
	case h.lpa:
		return mask(desc, 47, low) | bits(desc, 15, 12)<<48
	case h.lpa2:
		return mask(desc, 49, low) | bits(desc, 9, 8)<<50
	}
	return mask(desc, 47, low)
}
