package testkvm

import (
	"encoding/binary"
	"testing"

	"warder/kvm"
)

// Base is the guest-physical address of a Guest's memory.
const Base = 0x10000

func (g *Guest) reset(t testing.TB) {
	t.Helper()
	s, err := g.CPU.GetSregs()
	if err != nil {
		t.Fatal(err)
	}
	// KVM refuses long mode, among others, to a processor that does not have it.
	cpuid, err := g.System.SupportedCPUID()
	if err != nil {
		t.Fatal(err)
	}
	if err := g.CPU.SetCPUID2(cpuid); err != nil {
		t.Fatal(err)
	}
	s.CS.Selector, s.CS.Base = Base>>4, Base
	if err := g.CPU.SetSregs(&s); err != nil {
		t.Fatal(err)
	}
	g.SetRegs(t, kvm.Regs{RFLAGS: 2})
}

// SetRegs sets the general-purpose registers. In real mode RIP counts from Base.
func (g *Guest) SetRegs(t testing.TB, r kvm.Regs) {
	t.Helper()
	if err := g.CPU.SetRegs(&r); err != nil {
		t.Fatal(err)
	}
}

// Where LongMode puts its tables in Memory, and the bytes they take.
const tables = Size - 5*4096

// LongMode takes the vCPU to 64-bit mode at ring 0, with the first 3 GiB mapped
// one to one, about to execute at the guest-physical address Base. The last 20
// KiB of Memory are taken for page tables.
func (g *Guest) LongMode(t testing.TB) {
	t.Helper()
	const present, writable, user, accessed, dirty, large = 1 << 0, 1 << 1, 1 << 2, 1 << 5, 1 << 6, 1 << 7
	put := func(table, index int, v uint64) {
		binary.LittleEndian.PutUint64(g.Memory[tables+4096*table+8*index:], v)
	}
	const top, pointers = 0, 1 // then a directory for each GiB
	put(top, 0, Base+tables+4096*pointers|present|writable|user|accessed)
	for gib := range 3 {
		put(pointers, gib, uint64(Base+tables+4096*(2+gib))|present|writable|user|accessed)
		for i := range 512 {
			put(2+gib, i, uint64(gib)<<30|uint64(i)<<21|present|writable|user|accessed|dirty|large)
		}
	}
	s, err := g.CPU.GetSregs()
	if err != nil {
		t.Fatal(err)
	}
	const codeReadAccessed, dataWriteAccessed = 11, 3
	data := kvm.Segment{Limit: 1<<32 - 1, Selector: 16, Type: dataWriteAccessed, Present: 1, DB: 1, S: 1, G: 1}
	s.CS = kvm.Segment{Limit: 1<<32 - 1, Selector: 8, Type: codeReadAccessed, Present: 1, S: 1, L: 1, G: 1}
	s.DS, s.ES, s.FS, s.GS, s.SS = data, data, data, data, data
	s.IDT = kvm.DescriptorTable{} // an exception is a triple fault
	s.CR3 = Base + tables
	s.CR4 = 1 << 5                     // PAE
	s.CR0 = 1<<0 | 1<<4 | 1<<5 | 1<<31 // PE, ET, NE, PG
	s.EFER = 1<<8 | 1<<10              // LME, LMA
	if err := g.CPU.SetSregs(&s); err != nil {
		t.Fatal(err)
	}
	g.SetRegs(t, kvm.Regs{RIP: Base, RSP: Base + tables, RFLAGS: 2})
}
