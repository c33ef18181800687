package pagetable

import "testing"

const (
	armTable = 0x3 // table at levels below 3, page at level 3
	armBlock = 0x1
	armAF    = 0x400
	armUser  = 0x40
	armRO    = 0x80
	armPXN   = 1 << 53
	armUXN   = 1 << 54

	tcr4K    = 2 << 30 // TG1 = 4K; TG0 = 4K is 0
	tcr16K   = 1<<30 | 2<<14
	tcr64K   = 3<<30 | 1<<14
	tcr48    = 16<<16 | 16 // T1SZ, T0SZ
	tcr39    = 25<<16 | 25
	tcr52    = 12<<16 | 12
	tcrIPS48 = 5 << 32
)

func TestARM64FourK(t *testing.T) {
	r := newRAM(t)
	const l0, l1, l2, l3, u0, u1 = 0x10_1000, 0x10_2000, 0x10_3000, 0x10_4000, 0x10_5000, 0x10_6000
	// 0xffff_8000_8020_1000 by TTBR1: indexes 256, 2, 1, 1.
	r.entry(l0, 256, l1|armTable)
	r.entry(l1, 2, l2|armTable)
	r.entry(l2, 1, l3|armTable)
	r.entry(l3, 1, 0x0000_4567_8901_2000&^0xfff|armTable|armAF|armRO|armUXN)
	r.entry(l3, 2, 0x15_0000|armTable|armAF|armPXN|armUXN)
	r.entry(l3, 3, 0x15_0000|armBlock) // reserved at level 3
	r.entry(l2, 2, 0x4020_0000|armBlock|armAF|armPXN|armUXN)
	r.entry(l1, 3, 0x1_0000_0000|armBlock|armAF|armUXN)
	r.entry(l0, 257, 0x15_0000|armBlock) // no block at level 0 without LPA2
	// By TTBR0, with a table that takes rights away: 0x0000_0080_0000_0000 is
	// index 1, 0.
	r.entry(u0, 1, u1|armTable|1<<61) // APTable: not for users
	r.entry(u1, 0, 0x8000_0000|armBlock|armAF|armUser|armPXN)
	r.entry(u0, 2, u1|armTable|1<<62|1<<60|1<<59) // read-only, UXN, PXN
	r.entry(u0, 3, u1|armTable)

	regs := ARM64{SCTLR: 1, TTBR0: u0 | 1, TTBR1: 0x00ab_0000_0000_0000 | l0, TCR: tcr4K | tcr48 | tcrIPS48}
	s := regs.Space()
	r.wantMapping(s, 0xffff_8000_8020_1abc, Mapping{Addr: 0x4567_8901_2abc, PageSize: 4 << 10, Executable: true})
	r.wantMapping(s, 0xffff_8000_8020_2000, Mapping{Addr: 0x15_0000, PageSize: 4 << 10, Writable: true})
	r.wantMapping(s, 0xffff_8000_8051_2345, Mapping{Addr: 0x4031_2345, PageSize: 2 << 20, Writable: true})
	r.wantMapping(s, 0xffff_8000_c000_0001, Mapping{Addr: 0x1_0000_0001, PageSize: 1 << 30, Writable: true, Executable: true})
	r.wantFault(s, 0xffff_8000_8020_3000, 3, ErrTable)
	r.wantFault(s, 0xffff_8080_0000_0000, 0, ErrTable)
	r.wantFault(s, 0xffff_8000_8020_4000, 3, ErrNotPresent)
	r.wantFault(s, 0xffff_8000_0000_0000, 1, ErrNotPresent)
	r.wantFault(s, 0xff7f_8000_8020_1000, 0, ErrAddress)
	r.wantFault(s, 0x0001_0000_0000_0000, 0, ErrAddress)

	// In TTBR0's half: what the tables above take away is gone, unless
	// TCR.HPD0 says that they take nothing.
	r.wantMapping(s, 0x80_0000_0010, Mapping{Addr: 0x8000_0010, PageSize: 1 << 30, Writable: true})
	r.wantMapping(s, 0x100_0000_0000, Mapping{Addr: 0x8000_0000, PageSize: 1 << 30, User: true})
	r.wantMapping(s, 0x180_0000_0000, Mapping{Addr: 0x8000_0000, PageSize: 1 << 30, Writable: true, User: true, Executable: true})
	regs.TCR |= 1 << 41
	r.wantMapping(regs.Space(), 0x100_0000_0000, Mapping{Addr: 0x8000_0000, PageSize: 1 << 30, Writable: true, User: true, Executable: true})

	// The top byte is ignored where TBI says so, in that half only.
	tagged := regs
	tagged.TCR |= 1 << 37
	r.wantMapping(tagged.Space(), 0x5a00_0180_0000_0000, Mapping{Addr: 0x8000_0000, PageSize: 1 << 30, Writable: true, User: true, Executable: true})
	r.wantFault(tagged.Space(), 0xa5ff_8000_8020_1abc, 0, ErrAddress)
	tagged.TCR = regs.TCR | 1<<38
	r.wantMapping(tagged.Space(), 0xa5ff_8000_8020_1abc, Mapping{Addr: 0x4567_8901_2abc, PageSize: 4 << 10, Executable: true})

	regs.TCR |= 1 << 7 // EPD0
	r.wantFault(regs.Space(), 0x180_0000_0000, 0, ErrAddress)
	regs.TCR |= 1 << 23 // EPD1
	r.wantFault(regs.Space(), 0xffff_8000_8020_1abc, 0, ErrAddress)
}

// TestARM64ThreeLevels starts at level 1, as 39-bit kernels do.
func TestARM64ThreeLevels(t *testing.T) {
	r := newRAM(t)
	const l1, l2 = 0x10_1000, 0x10_2000
	r.entry(l1, 511, l2|armTable) // 0xffff_ffff_c000_0000
	r.entry(l2, 0, 0x4000_0000|armBlock|armAF)
	s := ARM64{SCTLR: 1, TTBR1: l1, TCR: tcr4K | tcr39}.Space()
	r.wantMapping(s, 0xffff_ffff_c000_1000, Mapping{Addr: 0x4000_1000, PageSize: 2 << 20, Writable: true, Executable: true})
	r.wantFault(s, 0xffff_ff7f_ffff_ffff, 0, ErrAddress)
	r.wantFault(s, 0xffff_ff80_0000_0000, 1, ErrNotPresent)
}

func TestARM64SixteenK(t *testing.T) {
	r := newRAM(t)
	const l0, l1, l2, l3 = 0x10_4000, 0x10_8000, 0x10_c000, 0x11_0000
	// 48 bits: level 0 has two entries, so its table may stand at 16 bytes.
	const top = l0 + 0x30
	r.entry(top, 1, l1|armTable)
	r.entry(l1, 2047, l2|armTable)
	r.entry(l2, 2047, l3|armTable)
	r.entry(l3, 2047, 0x14_c000|armTable|armAF|armUser|armPXN)
	r.entry(l2, 0, 0x4200_0000|armBlock|armAF)
	r.entry(l1, 0, 0x4200_0000|armBlock|armAF)
	s := ARM64{SCTLR: 1, TTBR1: top, TCR: tcr16K | tcr48}.Space()
	r.wantMapping(s, 0xffff_ffff_ffff_ffff, Mapping{Addr: 0x14_ffff, PageSize: 16 << 10, User: true, Writable: true, Executable: true})
	r.wantMapping(s, 0xffff_fff0_0000_0001, Mapping{Addr: 0x4200_0001, PageSize: 32 << 20, Writable: true, Executable: true})
	r.wantFault(s, 0xffff_8000_0000_0000, 1, ErrTable) // a block of 64 GiB
}

func TestARM64SixtyFourK(t *testing.T) {
	r := newRAM(t)
	const l1, l2, l3 = 0x11_0000, 0x12_0000, 0x13_0000
	// 52 bits of virtual and physical address (LVA, LPA): level 1 has 1024
	// entries, address bits 51:48 stand in bits 15:12, in TTBR in 5:2.
	r.entry(l1, 1023, l2|armTable)
	r.entry(l2, 8191, l3|armTable)
	r.entry(l3, 8191, 0x0000_1234_5678_0000|0xa<<12|armTable|armAF)
	r.entry(l2, 0, 0x4000_0000|0x3<<12|armBlock|armAF)
	r.entry(l1, 0, 0x0000_0400_0000_0000|armBlock|armAF)
	regs := ARM64{SCTLR: 1, TTBR1: l1, TCR: tcr64K | tcr52 | tcrIPS52<<32}
	s := regs.Space()
	r.wantMapping(s, 0xffff_ffff_ffff_0042, Mapping{Addr: 0xa_1234_5678_0042, PageSize: 64 << 10, Writable: true, Executable: true})
	r.wantMapping(s, 0xffff_fc00_1000_0000, Mapping{Addr: 0x3_0000_5000_0000, PageSize: 512 << 20, Writable: true, Executable: true})
	r.wantMapping(s, 0xfff0_0000_0000_0000, Mapping{Addr: 0x400_0000_0000, PageSize: 4 << 40, Writable: true, Executable: true})
	r.wantFault(s, 0xffe0_0000_0000_0000, 0, ErrAddress)

	// With fewer bits the same descriptors mean something else.
	regs.TCR = tcr64K | tcr48 | tcrIPS48
	regs.TTBR1 = l1
	r.entry(l1, 63, l2|armTable) // 64 entries at level 1 now
	s = regs.Space()
	r.wantMapping(s, 0xffff_ffff_ffff_0042, Mapping{Addr: 0x1234_5678_0042, PageSize: 64 << 10, Writable: true, Executable: true})
	r.wantFault(s, 0xffff_0000_0000_0000, 1, ErrTable) // a block of 4 TiB

	regs.TCR = tcr64K | tcr52 | tcrIPS52<<32
	regs.TTBR1 = l1 | 1<<2 // address bit 48: outside RAM
	r.wantFault(regs.Space(), 0xffff_ffff_ffff_0042, 1, ErrTable)
}

func TestARM64LPA2(t *testing.T) {
	r := newRAM(t)
	const top, l0, l1, l2, l3 = 0x10_1080, 0x10_2000, 0x10_3000, 0x10_4000, 0x10_5000
	// 4K, 52 bits: five levels from -1, whose table has 16 entries; address
	// bits 51:50 stand in bits 9:8, bits 49:48 in place.
	r.entry(top, 15, l0|armTable)
	r.entry(l0, 511, l1|armTable)
	r.entry(l1, 511, l2|armTable)
	r.entry(l2, 511, l3|armTable)
	r.entry(l3, 511, 0x0003_0000_0015_0000|0x2<<8|armTable|armAF)
	r.entry(l0, 0, 0x0001_0000_0000_0000|0x1<<8|armBlock|armAF) // 512 GiB
	s := ARM64{SCTLR: 1, TTBR1: top, TCR: tcr4K | tcr52 | tcrDS}.Space()
	r.wantMapping(s, 0xffff_ffff_ffff_f123, Mapping{Addr: 0xb_0000_0015_0123, PageSize: 4 << 10, Writable: true, Executable: true})
	r.wantMapping(s, 0xffff_0000_0000_0001, Mapping{Addr: 0x5_0000_0000_0001, PageSize: 512 << 30, Writable: true, Executable: true})
	r.wantFault(s, 0xfff0_0000_0000_0000, -1, ErrNotPresent)

	// 16K, 52 bits: level 0 has 32 entries, and level 1 may have blocks.
	const k0, k1 = 0x11_0000, 0x11_4000
	r.entry(k0, 31, k1|armTable)
	r.entry(k1, 2047, 0x0010_0000_0000|0x1<<8|armBlock|armAF)
	s = ARM64{SCTLR: 1, TTBR1: k0, TCR: tcr16K | tcr52 | tcrDS}.Space()
	r.wantMapping(s, 0xffff_ffff_ffff_ffff, Mapping{Addr: 0x4_001f_ffff_ffff, PageSize: 64 << 30, Writable: true, Executable: true})
}

func TestARM64Modes(t *testing.T) {
	r := newRAM(t)
	r.wantMapping(ARM64{}.Space(), 0x4000_0000, Mapping{Addr: 0x4000_0000, PageSize: 4 << 10, Writable: true, User: true, Executable: true})
	for name, tcr := range map[string]uint64{
		"reserved granule":         tcr48 | 3<<14,
		"52 bits without LPA2":     tcr52 | tcr4K,
		"fewer bits than a page":   63,
		"nothing to translate":     tcr16K | 50,
		"more bits than there are": tcr64K | 1,
	} {
		t.Run(name, func(t *testing.T) {
			r.wantFault(ARM64{SCTLR: 1, TTBR0: 0x10_0000, TCR: tcr}.Space(), 0, 0, ErrMode)
		})
	}
}

// TestARM64HostileTables walks a table that is its own next level.
func TestARM64HostileTables(t *testing.T) {
	r := newRAM(t)
	const l0 = 0x10_1000
	r.entry(l0, 0, l0|armTable|armUser)
	r.entry(l0, 1, 0x7000_0000|armTable)
	s := ARM64{SCTLR: 1, TTBR0: l0, TCR: tcr4K | tcr48}.Space()
	r.wantMapping(s, 0x123, Mapping{Addr: l0 | 0x123, PageSize: 4 << 10, Writable: true, User: true, Executable: true})
	r.wantFault(s, 1<<39, 1, ErrTable)
}
