package linuxamd64

import (
	"encoding/binary"

	"warder/boot"
)

// Bits of control registers (Intel SDM, volume 3, section 2.5) and EFER
// (section 2.2.1).
const (
	cr0PE = 1 << 0
	cr0ET = 1 << 4
	cr0NE = 1 << 5
	cr0PG = 1 << 31

	cr4PAE = 1 << 5

	eferLME = 1 << 8
	eferLMA = 1 << 10

	rflagsFixed = 1 << 1 // always set; interrupts are off
)

// Selectors: __BOOT_CS and __BOOT_DS of the boot protocol, a TSS behind them.
const (
	selectorCode = 0x10
	selectorData = 0x18
	selectorTSS  = 0x20
)

// Segment types, SDM volume 3, tables 3-1 and 3-2: "accessed" resp. "busy".
const (
	typeData = 0x3
	typeCode = 0xb
	typeTSS  = 0xb
)

func flat(selector uint16, kind uint8) Selector {
	return Selector{Selector: selector, Limit: 0xffff_ffff, Type: kind, Present: true, Granularity: true}
}

// segments fills in flat segments, with code of 64 or of 32 bits.
func (c *CPU) segments(long bool) {
	c.CS = flat(selectorCode, typeCode)
	c.CS.Long, c.CS.Big = long, !long
	data := flat(selectorData, typeData)
	data.Big = true
	c.DS, c.SS, c.ES, c.FS, c.GS = data, data, data, data, data
	c.TR = Selector{Selector: selectorTSS, Limit: 0x67, Type: typeTSS, Present: true, System: true}
}

// descriptor is the form of s in a table.
func (s Selector) descriptor() uint64 {
	limit := uint64(s.Limit)
	if s.Granularity {
		limit >>= 12
	}
	flag := func(b bool, bit int) uint64 {
		if b {
			return 1 << bit
		}
		return 0
	}
	return limit&0xffff | s.Base&0xff_ffff<<16 | uint64(s.Type)<<40 | flag(!s.System, 44) |
		uint64(s.DPL)<<45 | flag(s.Present, 47) | limit>>16<<48 | flag(s.Long, 53) | flag(s.Big, 54) |
		flag(s.Granularity, 55) | s.Base>>24&0xff<<56
}

// gdt is the table that the selectors above point into.
func (c *CPU) gdt() boot.Segment {
	var b []byte
	for _, d := range []uint64{0, 0, c.CS.descriptor(), c.DS.descriptor(), c.TR.descriptor(), 0} {
		b = binary.LittleEndian.AppendUint64(b, d)
	}
	c.GDT = DescriptorTable{Base: gdtAddr, Limit: uint16(len(b) - 1)}
	return boot.Segment{Addr: gdtAddr, Data: b}
}

// mapped is how much memory the page tables map, each address to itself.
const mapped = 4 << 30

// pageTables maps the first 4 GiB with pages of 2 MiB, which every CPU has: one
// PML4, one PDPT and four page directories behind each other.
func pageTables() boot.Segment {
	const (
		entry    = 8
		perTable = pageSize / entry
		present  = 1 << 0
		write    = 1 << 1
		large    = 1 << 7
		pdpt     = pageTableAddr + pageSize
		pd       = pdpt + pageSize
	)
	b := make([]byte, 0, 6*pageSize)
	add := func(v uint64) { b = binary.LittleEndian.AppendUint64(b, v) }
	add(pdpt | present | write)
	b = b[:pageSize]
	for i := range uint64(mapped >> 30) {
		add(pd + i*pageSize | present | write)
	}
	b = b[:2*pageSize]
	for i := range uint64(mapped >> 30 * perTable) {
		add(i<<21 | present | write | large)
	}
	return boot.Segment{Addr: pageTableAddr, Data: b}
}
