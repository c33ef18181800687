package pagetable

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"warder/devices/guestmem"
)

// ramBase is not 0, so that an address taken for an offset is noticed.
const ramBase = 0x10_0000

// ram is 1 MiB of guest memory, in which a test lays tables by hand.
type ram struct {
	*guestmem.Memory
	t testing.TB
}

func newRAM(t testing.TB) ram {
	t.Helper()
	m, err := guestmem.New(guestmem.Region{Base: ramBase, Bytes: make([]byte, 1<<20)})
	if err != nil {
		t.Fatal(err)
	}
	return ram{m, t}
}

// entry sets entry i of the table at base.
func (r ram) entry(base uint64, i int, v uint64) {
	r.t.Helper()
	if err := r.StoreUint64(guestmem.Addr(base)+guestmem.Addr(8*i), v); err != nil {
		r.t.Fatal(err)
	}
}

// wantMapping checks one translation.
func (r ram) wantMapping(s Space, va uint64, want Mapping) {
	r.t.Helper()
	got, err := s.Translate(r, va)
	if err != nil {
		r.t.Errorf("%#x: %v", va, err)
		return
	}
	if diff := cmp.Diff(want, got); diff != "" {
		r.t.Errorf("%#x: %s", va, diff)
	}
}

// wantFault checks where and why a translation fails.
func (r ram) wantFault(s Space, va uint64, level int, want error) {
	r.t.Helper()
	m, err := s.Translate(r, va)
	fault, ok := errors.AsType[*FaultError](err)
	switch {
	case !ok:
		r.t.Errorf("%#x: got %+v, %v, want a fault", va, m, err)
	case !errors.Is(err, want) || fault.Level != level || fault.VA != va:
		r.t.Errorf("%#x: got %v, want %v at level %d", va, err, want, level)
	}
}

const (
	x86P  = 0x1
	x86W  = 0x2
	x86U  = 0x4
	x86AD = 0x60
	x86PS = 0x80
	x86NX = 0x8000_0000_0000_0000

	longMode = 1<<8 | 1<<10 | 1<<11 // EFER.LME, LMA, NXE
	paging   = 1<<31 | 1            // CR0.PG, PE
)

// x86Tables lays four levels: a kernel page, a user page, a 2 MiB page and a
// 1 GiB page.
func x86Tables(r ram, pml4 uint64) {
	const pdpt, pd, pt = 0x10_2000, 0x10_3000, 0x10_4000
	// 0xffff_ffff_8123_4000: indexes 511, 510, 9, 52.
	r.entry(pml4, 511, pdpt|x86P|x86W|x86AD)
	r.entry(pdpt, 510, pd|x86P|x86W|x86AD)
	r.entry(pd, 9, pt|x86P|x86W|x86AD)
	r.entry(pt, 52, 0x0000_0000_0015_5000|x86P|x86AD|1<<8) // global, read-only
	// The next page, with a high address and the bits that software owns.
	r.entry(pt, 53, 0x000f_ffff_ffff_f000|x86P|x86W|x86NX|0x7ff0_0000_0000_0e00)
	// 0xffff_ffff_8140_0000: index 10, 2 MiB, with its PAT bit (12).
	r.entry(pd, 10, 0x0000_0001_2340_0000|x86P|x86W|x86PS|1<<12)

	const upd, upt, updpt = 0x10_5000, 0x10_6000, 0x10_7000
	// 0x0000_7fff_ffff_f000: indexes 255, 511, 511, 511.
	r.entry(pml4, 255, updpt|x86P|x86W|x86U)
	r.entry(updpt, 511, upd|x86P|x86W|x86U)
	r.entry(upd, 511, upt|x86P|x86U) // read-only for all below
	r.entry(upt, 511, 0x15_6000|x86P|x86W|x86U)
	// 0x0000_7fff_8000_0000: index 510, 1 GiB, not for users in spite of the levels above.
	r.entry(updpt, 510, 0x0000_0040_0000_0000|x86P|x86W|x86PS|x86NX)
}

func TestAMD64FourLevels(t *testing.T) {
	r := newRAM(t)
	const pml4 = 0x10_1000
	x86Tables(r, pml4)
	// The PCID and the top bit, by which a CR3 write keeps the TLB, are no address.
	s := AMD64{CR0: paging, CR3: pml4 | 0x8000_0000_0000_0fff, EFER: longMode}.Space()

	r.wantMapping(s, 0xffff_ffff_8123_4567, Mapping{Addr: 0x15_5567, PageSize: 4 << 10, Executable: true})
	r.wantMapping(s, 0xffff_ffff_8123_5000, Mapping{Addr: 0x000f_ffff_ffff_f000, PageSize: 4 << 10, Writable: true})
	r.wantMapping(s, 0xffff_ffff_815f_ffff, Mapping{Addr: 0x1_235f_ffff, PageSize: 2 << 20, Writable: true, Executable: true})
	r.wantMapping(s, 0x0000_7fff_ffff_fff8, Mapping{Addr: 0x15_6ff8, PageSize: 4 << 10, User: true, Executable: true})
	r.wantMapping(s, 0x0000_7fff_bfff_ffff, Mapping{Addr: 0x40_3fff_ffff, PageSize: 1 << 30, Writable: true})

	r.wantFault(s, 0, 4, ErrNotPresent)
	r.wantFault(s, 0x0000_7f80_0000_0000, 3, ErrNotPresent)
	r.wantFault(s, 0xffff_ffff_8000_0000, 2, ErrNotPresent)
	r.wantFault(s, 0xffff_ffff_8120_0000, 1, ErrNotPresent)
	r.wantFault(s, 0x0000_8000_0000_0000, 4, ErrAddress)
	r.wantFault(s, 0xffff_7fff_ffff_ffff, 4, ErrAddress)

	// Without EFER.NXE bit 63 means nothing.
	s = AMD64{CR0: paging, CR3: pml4, EFER: longMode &^ eferNXE}.Space()
	r.wantMapping(s, 0x0000_7fff_8000_0000, Mapping{Addr: 0x40_0000_0000, PageSize: 1 << 30, Writable: true, Executable: true})
}

func TestAMD64FiveLevels(t *testing.T) {
	r := newRAM(t)
	const pml5, pml4 = 0x10_8000, 0x10_1000
	x86Tables(r, pml4)
	r.entry(pml5, 511, pml4|x86P|x86W)
	r.entry(pml5, 3, pml4|x86P|x86W|x86U)
	s := AMD64{CR0: paging, CR3: pml5, CR4: 1 << 12, EFER: longMode}.Space()

	r.wantMapping(s, 0xffff_ffff_8123_4567, Mapping{Addr: 0x15_5567, PageSize: 4 << 10, Executable: true})
	// Not canonical with four levels.
	r.wantMapping(s, 0x0003_7fff_ffff_f000, Mapping{Addr: 0x15_6000, PageSize: 4 << 10, User: true, Executable: true})
	r.wantFault(s, 0x0000_7fff_ffff_f000, 5, ErrNotPresent)
	r.wantFault(s, 0x0100_0000_0000_0000, 5, ErrAddress)
}

func TestAMD64Modes(t *testing.T) {
	r := newRAM(t)
	off := AMD64{CR0: 1, CR3: 0x10_1000}.Space()
	r.wantMapping(off, 0x10_0123, Mapping{Addr: 0x10_0123, PageSize: 4 << 10, Writable: true, User: true, Executable: true})
	r.wantFault(AMD64{CR0: paging, CR3: 0x10_1000}.Space(), 0x1000, 0, ErrMode)
	r.wantFault(Space{}, 0x1000, 0, ErrMode)
}

// TestAMD64HostileTables walks tables that no kernel makes.
func TestAMD64HostileTables(t *testing.T) {
	r := newRAM(t)
	const pml4 = 0x10_1000
	r.entry(pml4, 0, pml4|x86P)                  // itself: every level is this table
	r.entry(pml4, 1, 0x7000_0000|x86P)           // outside RAM
	r.entry(pml4, 2, 0x000f_ffff_ffff_f000|x86P) // the last page there is
	r.entry(pml4, 3, 0x15_0000|x86P|x86PS)       // a page of 512 GiB
	s := AMD64{CR0: paging, CR3: pml4, EFER: longMode}.Space()

	r.wantMapping(s, 0x10, Mapping{Addr: pml4 | 0x10, PageSize: 4 << 10, Executable: true})
	r.wantFault(s, 1<<39, 3, ErrTable)
	r.wantFault(s, 2<<39, 3, ErrTable)
	r.wantFault(s, 3<<39, 4, ErrTable)
	if _, err := s.Translate(r, 1<<39); !errors.Is(err, guestmem.ErrRange) {
		t.Errorf("%v does not say that the table is outside RAM", err)
	}
	nowhere := AMD64{CR0: paging, CR3: 0x7000_0000, EFER: longMode}.Space()
	r.wantFault(nowhere, 0, 4, ErrTable)
}
