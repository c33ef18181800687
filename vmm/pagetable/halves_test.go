package pagetable

import (
	"errors"
	"testing"

	"warder/devices/guestmem"
)

// counting counts the table entries that a [TLB] looks for.
type counting struct {
	ram
	words int
}

func (c *counting) Word(a guestmem.Addr) (*uint64, error) {
	c.words++
	return c.ram.Word(a)
}

const (
	halvesTCR    = tcr4K | tcr39 | tcrIPS48
	kernelTables = 0x10_1000
	kernelPage   = 0xffff_ff80_0000_1000
	programPage  = 0x1000
)

// halves lays the kernel's tables and those of some processes, and gives the first table
// of each. The kernel's page begins with 0xff, a program's with its number from 1.
func halves(r ram, processes int) (tables []uint64) {
	lay := func(at uint64, first byte) {
		r.entry(at, 0, (at+0x1000)|armTable)
		r.entry(at+0x1000, 0, (at+0x2000)|armTable)
		r.entry(at+0x2000, 1, (at+0x3000)|armTable|armAF)
		r.entry(at+0x3000, 0, uint64(first))
	}
	lay(kernelTables, 0xff)
	for i := range processes {
		at := uint64(kernelTables + 0x4000*(i+1))
		lay(at, byte(i+1))
		tables = append(tables, at)
	}
	return tables
}

func TestKernelSpace(t *testing.T) {
	r := newRAM(t)
	user := halves(r, 1)[0]
	regs := ARM64{SCTLR: 1, TTBR0: user, TTBR1: kernelTables, TCR: halvesTCR}
	s := regs.KernelSpace()
	if s.Whole() || !regs.Space().Whole() || s == regs.Space() {
		t.Error("the kernel's half is taken for the whole")
	}
	if s.Granule() != 4<<10 || s.KernelBits() != 39 {
		t.Errorf("pages of %d for %d bits", s.Granule(), s.KernelBits())
	}
	r.wantMapping(s, kernelPage|8, Mapping{Addr: kernelTables + 0x3008, PageSize: 4 << 10, Writable: true, Executable: true})
	r.wantFault(s, programPage, 0, ErrMode)
	r.wantFault(s.User(guestmem.Addr(user)), programPage, 0, ErrMode)
	for name, change := range map[string]func(*ARM64){
		"TTBR0":        func(a *ARM64) { a.TTBR0 = 0x10_0000 },
		"ASID":         func(a *ARM64) { a.TTBR1 |= 0x1234 << 48 },
		"CnP":          func(a *ARM64) { a.TTBR1 |= 1 },
		"T0SZ":         func(a *ARM64) { a.TCR ^= 1 },
		"other tables": func(a *ARM64) { a.TTBR1 += 0x1000 },
		"T1SZ":         func(a *ARM64) { a.TCR ^= 1 << 16 },
		"no MMU":       func(a *ARM64) { a.SCTLR = 0 },
	} {
		other := regs
		change(&other)
		same := name == "TTBR0" || name == "ASID" || name == "CnP" || name == "T0SZ"
		if got := other.KernelSpace() == s; got != same {
			t.Errorf("with another %s: the same half is %v", name, got)
		}
	}
	off := ARM64{TCR: halvesTCR}
	if !off.KernelSpace().Whole() || off.KernelSpace() != off.Space() {
		t.Error("without an MMU there are halves")
	}
}

// TestTLBHalves asks about the kernel and one process after the other.
func TestTLBHalves(t *testing.T) {
	c := &counting{ram: newRAM(t)}
	tables := halves(c.ram, 3*tlbHalves)
	tlb := NewTLB(c)
	first := func(va uint64) byte {
		t.Helper()
		p, err := tlb.Page(va)
		if err != nil {
			t.Fatalf("%#x: %v", va, err)
		}
		return p[0]
	}
	for round := range 2 {
		for i, at := range tables {
			whole := ARM64{SCTLR: 1, TTBR0: at, TTBR1: kernelTables | uint64(i)<<48, TCR: halvesTCR}
			tlb.Reset(whole.KernelSpace())
			c.words = 0
			if b := first(kernelPage); b != 0xff {
				t.Errorf("process %d: the kernel's page begins with %#x", i, b)
			}
			if walked := c.words > 0; walked && (round > 0 || i > 0) {
				t.Errorf("process %d: the kernel's page was looked for again", i)
			}
			if _, err := tlb.Page(programPage); !errors.Is(err, ErrMode) {
				t.Errorf("process %d: without its half: %v", i, err)
			}
			tlb.Complete(whole.Space())
			if b := first(programPage); b != byte(i+1) {
				t.Errorf("process %d: its page begins with %#x", i, b)
			}
			if b := first(kernelPage); b != 0xff || tlb.Space() != whole.Space() {
				t.Errorf("process %d: the kernel's page begins with %#x, its space is another", i, b)
			}
		}
	}
	// Another kernel in the same place is another.
	tlb.Reset(ARM64{SCTLR: 1, TTBR1: tables[0], TCR: halvesTCR}.KernelSpace())
	if b := first(kernelPage); b != 1 {
		t.Errorf("by other tables: the kernel's page begins with %#x", b)
	}
}
