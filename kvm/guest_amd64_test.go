package kvm_test

import (
	"encoding/binary"
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"warder/internal/testkvm"
	"warder/kvm"
)

// A dozen instructions in real mode: ports of each width, both ways, and HLT.
func TestRealModeGuest(t *testing.T) {
	g := testkvm.NewGuest(t, []byte{
		0xb0, 0x2a, //             mov  al, 0x2a
		0xe6, 0x10, //             out  0x10, al
		0xe4, 0x11, //             in   al, 0x11
		0x04, 0x01, //             add  al, 1
		0xe6, 0x12, //             out  0x12, al
		0xba, 0x34, 0x12, //       mov  dx, 0x1234
		0xb8, 0xcd, 0xab, //       mov  ax, 0xabcd
		0xef,       //             out  dx, ax
		0x66, 0xed, //             in   eax, dx
		0x66, 0x40, //             inc  eax
		0x66, 0xef, //             out  dx, eax
		0xf4, //                   hlt
	})
	for _, step := range []struct {
		want   kvm.IO
		answer []byte
	}{
		{want: kvm.IO{Direction: kvm.IOOut, Size: 1, Port: 0x10, Count: 1, Data: []byte{0x2a}}},
		{want: kvm.IO{Direction: kvm.IOIn, Size: 1, Port: 0x11, Count: 1}, answer: []byte{0x40}},
		{want: kvm.IO{Direction: kvm.IOOut, Size: 1, Port: 0x12, Count: 1, Data: []byte{0x41}}},
		{want: kvm.IO{Direction: kvm.IOOut, Size: 2, Port: 0x1234, Count: 1, Data: []byte{0xcd, 0xab}}},
		{want: kvm.IO{Direction: kvm.IOIn, Size: 4, Port: 0x1234, Count: 1}, answer: []byte{1, 2, 3, 4}},
		{want: kvm.IO{Direction: kvm.IOOut, Size: 4, Port: 0x1234, Count: 1, Data: []byte{2, 2, 3, 4}}},
	} {
		io := g.Run(t, kvm.ExitIO).IO()
		if step.answer != nil {
			if len(io.Data) != len(step.answer) {
				t.Fatalf("port %#x: room for %d bytes, want %d", io.Port, len(io.Data), len(step.answer))
			}
			copy(io.Data, step.answer)
			io.Data = nil
		}
		if d := cmp.Diff(step.want, io); d != "" {
			t.Fatalf("port access (-want +got):\n%s", d)
		}
	}
	g.Run(t, kvm.ExitHlt)
	r, err := g.CPU.GetRegs()
	if err != nil {
		t.Fatal(err)
	}
	if r.RIP != 24 {
		t.Errorf("stopped at %#x, want behind HLT", r.RIP)
	}
}

// A dozen instructions in long mode: memory that is not there is MMIO.
func TestLongModeGuest(t *testing.T) {
	g := testkvm.NewGuest(t, []byte{
		0xbb, 0x00, 0x00, 0x00, 0xb0, //       mov  ebx, 0xb0000000
		0xc7, 0x03, 0x44, 0x33, 0x22, 0x11, // mov  dword [rbx], 0x11223344
		0x48, 0x8b, 0x43, 0x08, //             mov  rax, [rbx+8]
		0x48, 0xff, 0xc0, //                   inc  rax
		0x66, 0x89, 0x43, 0x10, //             mov  [rbx+16], ax
		0x8a, 0x43, 0x18, //                   mov  al, [rbx+24]
		0x50, //                         push rax
		0x59, //                         pop  rcx
		0xf4, //                               hlt
	})
	g.LongMode(t)
	accesses(t, g, []mmioStep{
		{want: kvm.MMIO{Addr: 0xb0000000, Len: 4, IsWrite: true, Data: []byte{0x44, 0x33, 0x22, 0x11}}},
		{want: kvm.MMIO{Addr: 0xb0000008, Len: 8}, answer: []byte{0xff, 1, 2, 3, 4, 5, 6, 7}},
		{want: kvm.MMIO{Addr: 0xb0000010, Len: 2, IsWrite: true, Data: []byte{0, 2}}},
		{want: kvm.MMIO{Addr: 0xb0000018, Len: 1}, answer: []byte{0x5a}},
	})
	g.Run(t, kvm.ExitHlt)
	r, err := g.CPU.GetRegs()
	if err != nil {
		t.Fatal(err)
	}
	if want := uint64(0x070605040302025a); r.RCX != want {
		t.Errorf("RCX is %#x, want %#x", r.RCX, want)
	}
	if pa, ok, err := g.CPU.Translate(0x12345); err != nil || !ok || pa != 0x12345 {
		t.Errorf("Translate(0x12345) = %#x, %v, %v", pa, ok, err)
	}
	if _, ok, err := g.CPU.Translate(1 << 46); err != nil || ok {
		t.Errorf("Translate of what is not mapped: %v, %v", ok, err)
	}
}

// Registers in the run page: at an exit without a further system call, and back.
func TestSyncRegs(t *testing.T) {
	g := testkvm.NewGuest(t, []byte{
		0xe6, 0x10, //       loop: out 0x10, al
		0xeb, 0xfc, //       jmp loop
	})
	const all = kvm.SyncX86Regs | kvm.SyncX86Sregs | kvm.SyncX86Events
	if n := testkvm.NeedCap(t, g.VM, kvm.CapSyncRegs); n != all {
		t.Errorf("classes %#x, want %#x", n, all)
	}
	g.CPU.SetValidRegs(all)
	g.Run(t, kvm.ExitIO)
	want, err := g.CPU.GetRegs()
	if err != nil {
		t.Fatal(err)
	}
	s := g.CPU.SyncRegs()
	if s.Regs != want {
		t.Errorf("registers in the run page differ: %s", cmp.Diff(want, s.Regs))
	}
	if s.Sregs.CS.Base != testkvm.Base {
		t.Errorf("CS base %#x", s.Sregs.CS.Base)
	}
	s.Regs.RAX, s.Regs.R15 = 0x77, 15
	g.CPU.SetDirtyRegs(kvm.SyncX86Regs)
	if io := g.Run(t, kvm.ExitIO).IO(); io.Data[0] != 0x77 {
		t.Errorf("AL was not taken over: %#x", io.Data[0])
	}
	if r, err := g.CPU.GetRegs(); err != nil || r.R15 != 15 {
		t.Errorf("R15 = %#x, %v", r.R15, err)
	}
	g.CPU.SetDirtyRegs(1 << 31)
	if err := g.CPU.Run(); !errors.Is(err, unix.EINVAL) {
		t.Errorf("a class that there is not: %v, want EINVAL", err)
	}
}

// A write to a read-only slot is an MMIO exit, and is not done.
func TestReadOnlyMemory(t *testing.T) {
	g := testkvm.NewGuest(t, []byte{
		0xbb, 0x00, 0x00, 0x40, 0x00, // mov ebx, 0x400000
		0x8b, 0x03, //                   mov eax, [rbx]
		0xff, 0xc0, //                   inc eax
		0x89, 0x03, //                   mov [rbx], eax
		0x8b, 0x0b, //                   mov ecx, [rbx]
		0xf4, //                         hlt
	})
	testkvm.NeedCap(t, g.VM, kvm.CapReadOnlyMem)
	testkvm.Need(t) // an emulating KVM was seen to take it for plain memory
	m := page(t)
	m[0] = 41
	if err := g.VM.SetMemory(kvm.MemoryRegion{
		Slot: 1, Flags: kvm.MemReadOnly, GuestPhys: 0x400000, Size: uint64(len(m)), Memory: m,
	}); err != nil {
		t.Fatal(err)
	}
	g.LongMode(t)
	got := g.Run(t, kvm.ExitMMIO).MMIO()
	if d := cmp.Diff(kvm.MMIO{Addr: 0x400000, Len: 4, IsWrite: true, Data: []byte{42, 0, 0, 0}}, got); d != "" {
		t.Errorf("write (-want +got):\n%s", d)
	}
	g.Run(t, kvm.ExitHlt)
	if r, err := g.CPU.GetRegs(); err != nil || r.RCX != 41 || m[0] != 41 {
		t.Errorf("the write was done: ECX %d, memory %d, %v", r.RCX, m[0], err)
	}
}

// A write to LSTAR exits, can be refused, and can be let through.
func TestMSRFilter(t *testing.T) {
	const lstar = 0xc0000082
	g := testkvm.NewGuest(t, []byte{
		0xb9, 0x82, 0x00, 0x00, 0xc0, // mov ecx, 0xc0000082
		0xb8, 0x00, 0x10, 0x00, 0x80, // mov eax, 0x80001000
		0xba, 0xff, 0xff, 0xff, 0xff, // mov edx, 0xffffffff
		0x0f, 0x30, //                   wrmsr
		0x0f, 0x32, //                   rdmsr
		0xf4, //                         hlt
	})
	testkvm.NeedCap(t, g.VM, kvm.CapX86UserSpaceMSR)
	testkvm.NeedCap(t, g.VM, kvm.CapX86MSRFilter)
	if err := g.VM.EnableCap(kvm.CapX86UserSpaceMSR, 0, kvm.X86UserSpaceMSRFilter); err != nil {
		t.Fatal(err)
	}
	if err := g.VM.SetMSRFilter(kvm.MSRFilter{Ranges: []kvm.MSRRange{
		{Flags: kvm.MSRFilterWrite, Base: lstar, Count: 1, Bitmap: []byte{0}},
	}}); err != nil {
		t.Fatal(err)
	}
	g.LongMode(t)
	want := kvm.MSR{Reason: kvm.MSRReasonFilter, Index: lstar, Data: 0xffffffff80001000}
	if d := cmp.Diff(want, g.Run(t, kvm.ExitX86WRMSR).MSR()); d != "" {
		t.Fatalf("write (-want +got):\n%s", d)
	}
	// What we set is not filtered; the guest reads it natively.
	if err := g.CPU.SetMSRs([]kvm.MSREntry{{Index: lstar, Data: 0xffffffff80002000}}); err != nil {
		t.Fatal(err)
	}
	g.CPU.SetMSRResult(0, false)
	g.Run(t, kvm.ExitHlt)
	r, err := g.CPU.GetRegs()
	if err != nil {
		t.Fatal(err)
	}
	if r.RAX != 0x80002000 {
		t.Errorf("the guest reads %#x", r.RAX)
	}
}

func TestMSRFilterLimits(t *testing.T) {
	vm, err := testkvm.Open(t).CreateVM(0)
	if err != nil {
		t.Fatal(err)
	}
	defer vm.Close()
	for name, f := range map[string]kvm.MSRFilter{
		"17 ranges":    {Ranges: make([]kvm.MSRRange, 17)},
		"empty range":  {Ranges: []kvm.MSRRange{{Flags: kvm.MSRFilterRead}}},
		"short bitmap": {Ranges: []kvm.MSRRange{{Flags: kvm.MSRFilterRead, Count: 9, Bitmap: []byte{1}}}},
		"too long":     {Ranges: []kvm.MSRRange{{Flags: kvm.MSRFilterRead, Count: 0x600*8 + 1, Bitmap: make([]byte, 0x601)}}},
	} {
		if err := vm.SetMSRFilter(f); err == nil || errors.Is(err, unix.EINVAL) {
			t.Errorf("%s: %v, want an error of ours", name, err)
		}
	}
}

// A hardware breakpoint stops before its instruction; RFLAGS.RF gets past it.
func TestHardwareBreakpoint(t *testing.T) {
	testkvm.Need(t)
	g := testkvm.NewGuest(t, []byte{
		0xff, 0xc0, // inc eax
		0xff, 0xc0, // inc eax
		0xf4, //       hlt
	})
	testkvm.NeedCap(t, g.VM, kvm.CapSetGuestDebug)
	g.LongMode(t)
	const at = testkvm.Base + 2
	if err := g.CPU.SetGuestDebug(&kvm.GuestDebug{
		Control:  kvm.DebugEnable | kvm.DebugHardware,
		DebugReg: [8]uint64{0: at, 7: 0x402},
	}); err != nil {
		t.Fatal(err)
	}
	d := g.Run(t, kvm.ExitDebug).Debug()
	if d.Exception != 1 || d.PC != at || d.DR6&1 == 0 {
		t.Errorf("%+v, want #DB at %#x", d, at)
	}
	r, err := g.CPU.GetRegs()
	if err != nil {
		t.Fatal(err)
	}
	if r.RAX != 1 {
		t.Errorf("EAX is %d at the breakpoint, want 1", r.RAX)
	}
	r.RFLAGS |= 1 << 16
	g.SetRegs(t, r)
	g.Run(t, kvm.ExitHlt)
	if r, err = g.CPU.GetRegs(); err != nil || r.RAX != 2 {
		t.Errorf("EAX is %d at the end, %v", r.RAX, err)
	}
}

// INT3 exits, at the instruction; RIP + 1 goes on.
func TestSoftwareBreakpoint(t *testing.T) {
	testkvm.NeedHardware(t, "the INT3 intercept, which QEMU does not emulate")
	g := testkvm.NewGuest(t, []byte{0x90, 0xcc, 0xf4}) // nop; int3; hlt
	testkvm.NeedCap(t, g.VM, kvm.CapSetGuestDebug)
	g.LongMode(t)
	if err := g.CPU.SetGuestDebug(&kvm.GuestDebug{Control: kvm.DebugEnable | kvm.DebugSoftware}); err != nil {
		t.Fatal(err)
	}
	if d := g.Run(t, kvm.ExitDebug).Debug(); d.Exception != 3 || d.PC != testkvm.Base+1 {
		t.Errorf("%+v, want #BP at %#x", d, testkvm.Base+1)
	}
	r, err := g.CPU.GetRegs()
	if err != nil {
		t.Fatal(err)
	}
	r.RIP++
	g.SetRegs(t, r)
	g.Run(t, kvm.ExitHlt)
}

// A triple fault ends the guest and nothing else.
func TestTripleFault(t *testing.T) {
	g := testkvm.NewGuest(t, []byte{0x0f, 0x0b}) // ud2, with no IDT
	g.LongMode(t)
	g.Run(t, kvm.ExitShutdown)
}

// The kernel's MAP_GPA_RANGE hypercall comes to user space and is answered.
func TestHypercall(t *testing.T) {
	testkvm.Need(t)
	vmcall := []byte{0x0f, 0x01, 0xd9} // vmmcall; KVM patches a vmcall on its own
	if intel(t) {
		vmcall[2] = 0xc1
	}
	g := testkvm.NewGuest(t, append([]byte{
		0xb8, 0x0c, 0x00, 0x00, 0x00, // mov eax, 12
		0xbb, 0x00, 0x10, 0x00, 0x00, // mov ebx, 0x1000
		0xb9, 0x01, 0x00, 0x00, 0x00, // mov ecx, 1
		0xba, 0x10, 0x00, 0x00, 0x00, // mov edx, 0x10
	}, append(vmcall, 0xf4)...))
	testkvm.NeedCap(t, g.VM, kvm.CapExitHypercall)
	if err := g.VM.EnableCap(kvm.CapExitHypercall, 0, kvm.ExitHypercallMapGPARange); err != nil {
		t.Fatal(err)
	}
	// The paravirtual feature has to be offered to the guest.
	if err := g.CPU.SetCPUID2([]kvm.CPUIDEntry{
		{Function: 0x40000000, EAX: 0x40000001, EBX: 0x4b4d564b, ECX: 0x564b4d56, EDX: 0x4d},
		{Function: 0x40000001, EAX: 1 << 16},
		{Function: 0x80000000, EAX: 0x80000001},
		{Function: 0x80000001, EDX: 1 << 29},
	}); err != nil {
		t.Fatal(err)
	}
	g.LongMode(t)
	h := g.Run(t, kvm.ExitHypercall).Hypercall()
	if h.Nr != 12 || h.Args[0] != 0x1000 || h.Args[1] != 1 || h.Args[2] != 0x10 {
		t.Errorf("%+v", h)
	}
	g.CPU.SetHypercallResult(99)
	g.Run(t, kvm.ExitHlt)
	if r, err := g.CPU.GetRegs(); err != nil || r.RAX != 99 {
		t.Errorf("RAX is %d, %v", r.RAX, err)
	}
}

func intel(t testing.TB) bool {
	entries, err := testkvm.Open(t).SupportedCPUID()
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if e.Function == 0 {
			var b []byte
			for _, r := range []uint32{e.EBX, e.EDX, e.ECX} {
				b = binary.LittleEndian.AppendUint32(b, r)
			}
			return string(b) == "GenuineIntel"
		}
	}
	t.Fatal("no CPUID function 0")
	return false
}
