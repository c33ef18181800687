package pagetable

import (
	"bytes"
	"encoding/binary"
	"errors"
	"testing"

	"warder/devices/guestmem"
)

// scattered maps three consecutive pages from va on, out of order in memory, and
// nothing after them.
func scattered(r ram, va uint64) Space {
	const pml4, pdpt, pd, pt = 0x10_1000, 0x10_2000, 0x10_3000, 0x10_4000
	r.entry(pml4, int(va>>39&511), pdpt|x86P)
	r.entry(pdpt, int(va>>30&511), pd|x86P)
	r.entry(pd, int(va>>21&511), pt|x86P)
	for i, page := range []uint64{0x15_2000, 0x15_0000, 0x15_1000} {
		r.entry(pt, int(va>>12&511)+i, page|x86P)
	}
	return AMD64{CR0: paging, CR3: pml4, EFER: longMode}.Space()
}

func TestReadWriteAcrossPages(t *testing.T) {
	r := newRAM(t)
	const va = 0xffff_ffff_8000_0000
	s := scattered(r, va)
	want := bytes.Repeat([]byte("0123456789abcdefg"), 450)
	if err := s.Write(r, va+0xf01, want); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, len(want))
	if err := s.Read(r, va+0xf01, got); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Error("what was read is not what was written")
	}
	// Straight from memory: the second page.
	if err := r.ReadAt(got[:0x1000], 0x15_0000); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got[:0x1000], want[0xff:0x10ff]) {
		t.Error("the second page does not hold its part")
	}
}

func TestWriteIsWholeOrNothing(t *testing.T) {
	r := newRAM(t)
	const va = 0xffff_ffff_8000_0000
	s := scattered(r, va)
	err := s.Write(r, va+0x2ffe, []byte("abcd"))
	if fault, ok := errors.AsType[*FaultError](err); !ok || fault.VA != va+0x3000 {
		t.Errorf("a write past the last page: %v, want a fault at its end", err)
	}
	var p [2]byte
	if err := s.Read(r, va+0x2ffe, p[:]); err != nil || p != [2]byte{} {
		t.Errorf("read % x, %v after a write that failed", p, err)
	}
	if err := s.Read(r, va+0x2ffe, make([]byte, 4)); !errors.Is(err, ErrNotPresent) {
		t.Errorf("a read past the last page: %v", err)
	}
}

func TestNoWrapAround(t *testing.T) {
	r := newRAM(t)
	// The last page there is, and the first.
	s := scattered(r, ^uint64(0)-0xfff)
	r.entry(0x10_1000, 0, 0x10_2000|x86P)
	r.entry(0x10_2000, 0, 0x10_3000|x86P)
	r.entry(0x10_3000, 0, 0x10_4000|x86P)
	r.entry(0x10_4000, 0, 0x15_3000|x86P)
	if err := s.Read(r, ^uint64(0)-1, make([]byte, 2)); err != nil {
		t.Errorf("the last two bytes: %v", err)
	}
	if err := s.Read(r, ^uint64(0)-1, make([]byte, 3)); !errors.Is(err, ErrAddress) {
		t.Errorf("three bytes from the last two on: %v, want %v", err, ErrAddress)
	}
}

func TestMappedOutsideRAM(t *testing.T) {
	r := newRAM(t)
	const va = 0xffff_ffff_8000_0000
	s := scattered(r, va)
	r.entry(0x10_4000, 1, 0xfee0_0000|x86P) // a device
	if err := s.Read(r, va+0xffe, make([]byte, 4)); !errors.Is(err, guestmem.ErrRange) {
		t.Errorf("reading a device's page: %v, want %v", err, guestmem.ErrRange)
	}
}

// counted counts the entries that a walk reads.
type counted struct {
	Reader
	loads int
}

func (c *counted) LoadUint64(a guestmem.Addr) (uint64, error) {
	c.loads++
	return c.Reader.LoadUint64(a)
}

// FuzzTranslate walks any memory with any registers: every walk ends after an
// entry a level, and what it returns is a page of the architecture's that holds
// the address.
func FuzzTranslate(f *testing.F) {
	var seed []byte
	for i := range 64 {
		seed = binary.LittleEndian.AppendUint64(seed, ramBase|uint64(i)<<12|0x467)
	}
	f.Add(true, seed, uint64(ramBase), uint64(0), uint64(longMode), uint64(0x1234))
	f.Add(false, seed, uint64(ramBase), uint64(ramBase), uint64(tcr4K|tcr48), uint64(0x1234))
	f.Fuzz(func(t *testing.T, amd64 bool, tables []byte, a, b, c, va uint64) {
		bytes := make([]byte, 64<<10)
		copy(bytes, tables)
		m, err := guestmem.New(guestmem.Region{Base: ramBase, Bytes: bytes})
		if err != nil {
			t.Fatal(err)
		}
		s := ARM64{SCTLR: 1, TTBR0: a, TTBR1: b, TCR: c}.Space()
		if amd64 {
			s = AMD64{CR0: paging, CR3: a, CR4: b, EFER: c | eferLMA}.Space()
		}
		mem := &counted{Reader: m}
		got, err := s.Translate(mem, va)
		if mem.loads > 5 {
			t.Fatalf("%d entries read", mem.loads)
		}
		if err != nil {
			fault, ok := errors.AsType[*FaultError](err)
			if !ok || fault.VA != va {
				t.Fatalf("the error is %v", err)
			}
			return
		}
		if n := got.PageSize; n < 4<<10 || n&(n-1) != 0 || uint64(got.Addr)%n != va%n || got.Addr >= 1<<52 {
			t.Fatalf("%#x is mapped to %+v", va, got)
		}
	})
}

// A space can be told to start from other tables than its registers say.
func TestSpaceFromOtherTables(t *testing.T) {
	r := newRAM(t)
	const pml4 = 0x10_1000
	x86Tables(r, pml4)
	amd := AMD64{CR0: paging, CR3: 0x10_9000, EFER: longMode}.Space()
	want := Mapping{Addr: 0x15_5567, PageSize: 4 << 10, Executable: true}
	r.wantFault(amd, 0xffff_ffff_8123_4567, 4, ErrNotPresent)
	r.wantMapping(amd.Kernel(pml4), 0xffff_ffff_8123_4567, want)
	r.wantMapping(amd.User(pml4), 0xffff_ffff_8123_4567, want)
	r.wantFault(Space{}.Kernel(pml4), 0, 0, ErrMode)

	const l1, l2, l3 = 0x10_a000, 0x10_b000, 0x10_c000
	r.entry(l1, 0, l2|armTable)
	r.entry(l2, 0, l3|armTable)
	r.entry(l3, 1, 0x15_0000|armTable|armAF|armUXN)
	// TTBR0 is switched off (EPD0), as while the kernel runs a thread of its own.
	arm := ARM64{SCTLR: 1, TCR: tcr4K | tcr39 | tcrIPS48 | tcrEPD0}.Space()
	kernel := Mapping{Addr: 0x15_0008, PageSize: 4 << 10, Writable: true, Executable: true}
	r.wantMapping(arm.Kernel(l1), 0xffff_ff80_0000_1008, kernel)
	r.wantFault(arm.Kernel(l1), 0x1008, 0, ErrAddress)
	r.wantMapping(arm.User(l1), 0x1008, kernel)
	lpa := ARM64{SCTLR: 1, TCR: tcr64K | tcr52 | tcrIPS52<<32}.Space()
	if got := lpa.Kernel(0x000a_0000_0010_0000).high.(arm64Half).root(3); got != 0x000a_0000_0010_0000 {
		t.Errorf("a table above 48 bits: %#x", got)
	}
}
