package kvm_test

import (
	"encoding/binary"
	"testing"

	"github.com/google/go-cmp/cmp"

	"warder/kvm"
)

// Offsets of struct kvm_run.
const (
	runReason = 8
	runUnion  = 32
)

// runPage is a shared region of three pages whose union holds words of 32 bits.
func runPage(reason kvm.ExitReason, words ...uint32) []byte {
	b := make([]byte, 3*4096)
	binary.LittleEndian.PutUint32(b[runReason:], uint32(reason))
	for i, w := range words {
		binary.LittleEndian.PutUint32(b[runUnion+4*i:], w)
	}
	return b
}

func TestExitMalformed(t *testing.T) {
	io := func(size, count, offset uint32) []byte {
		return runPage(kvm.ExitIO, size<<8, count, offset, 0)
	}
	for name, c := range map[string]struct {
		page []byte
		want kvm.ExitReason
	}{
		"io":                 {io(1, 1, 4096), kvm.ExitIO},
		"io whole page":      {io(1, 4096, 4096), kvm.ExitIO},
		"io up to the end":   {io(4, 1, 3*4096-4), kvm.ExitIO},
		"io behind the end":  {io(4, 1, 3*4096-3), kvm.ExitMalformed},
		"io outside":         {io(1, 1, 1<<31), kvm.ExitMalformed},
		"io outside by 2^63": {runPage(kvm.ExitIO, 1<<8, 1, 4096, 1<<31), kvm.ExitMalformed},
		"io too many":        {io(4, 1<<32-1, 4096), kvm.ExitMalformed},
		"io of 3 bytes":      {io(3, 1, 4096), kvm.ExitMalformed},
		"io of 0 bytes":      {io(0, 1, 4096), kvm.ExitMalformed},
		"mmio":               {runPage(kvm.ExitMMIO, 0, 0, 0, 0, 8), kvm.ExitMMIO},
		"mmio of 9 bytes":    {runPage(kvm.ExitMMIO, 0, 0, 0, 0, 9), kvm.ExitMalformed},
	} {
		e := kvm.Decode(c.page)
		if e.Reason != c.want {
			t.Errorf("%s: %v, want %v", name, e.Reason, c.want)
		}
		if c.want == kvm.ExitMalformed && (e.IO().Data != nil || e.MMIO().Data != nil) {
			t.Errorf("%s: a malformed exit has data", name)
		}
	}
}

func TestExitDecode(t *testing.T) {
	for _, c := range []struct {
		page []byte
		get  func(*kvm.Exit) any
		want any
	}{
		{
			runPage(kvm.ExitSystemEvent, 3, 99, 1, 2), // more words than there is room for
			func(e *kvm.Exit) any { s := e.SystemEvent(); return []any{s.Type, len(s.Data), s.Data[0]} },
			[]any{kvm.SystemEventCrash, 16, uint64(2<<32 | 1)},
		},
		{
			runPage(kvm.ExitInternalError, kvm.InternalErrorEmulation, 4, 1, 0, 0x90900f03),
			func(e *kvm.Exit) any { return e.InternalError().Instruction },
			[]byte{0x0f, 0x90, 0x90},
		},
		{
			runPage(kvm.ExitInternalError, kvm.InternalErrorEmulation, 4, 1, 0, 0xff), // 255 bytes of instruction
			func(e *kvm.Exit) any { return len(e.InternalError().Instruction) },
			15,
		},
		{
			runPage(kvm.ExitInternalError, kvm.InternalErrorDelivery, 1, 7),
			func(e *kvm.Exit) any { return e.InternalError() },
			kvm.InternalError{Suberror: kvm.InternalErrorDelivery, Data: []uint64{7}},
		},
		{
			runPage(kvm.ExitX86WRMSR, 0, 0, kvm.MSRReasonFilter, 0xc0000082, 5, 6),
			func(e *kvm.Exit) any { return e.MSR() },
			kvm.MSR{Reason: kvm.MSRReasonFilter, Index: 0xc0000082, Data: 6<<32 | 5},
		},
		{
			runPage(kvm.ExitHypercall, 12, 0, 1, 0, 2, 0, 3, 0, 4, 0, 5, 0, 6, 0, 0, 0, 1),
			func(e *kvm.Exit) any { return e.Hypercall() },
			kvm.Hypercall{Nr: 12, Args: [6]uint64{1, 2, 3, 4, 5, 6}, Flags: 1},
		},
		{
			runPage(kvm.ExitXen, 1, 0, 1, 3, 7, 0, 0, 0, 1, 0, 2, 0, 3, 0, 4, 0, 5, 0, 6),
			func(e *kvm.Exit) any { return e.Xen() },
			kvm.Xen{Type: 1, LongMode: true, CPL: 3, Input: 7, Params: [6]uint64{1, 2, 3, 4, 5, 6}},
		},
		{
			runPage(kvm.ExitFailEntry, 7, 0, 2),
			func(e *kvm.Exit) any { return e.FailEntry() },
			kvm.FailEntry{HardwareReason: 7, CPU: 2},
		},
		{
			runPage(kvm.ExitArmNISV, 0x40, 0, 0x1000, 1),
			func(e *kvm.Exit) any { return e.ArmNISV() },
			kvm.ArmNISV{ESRISS: 0x40, FaultIPA: 1<<32 | 0x1000},
		},
		{
			runPage(kvm.ExitMemoryFault, 8, 0, 0x1000, 0, 0x2000),
			func(e *kvm.Exit) any { return e.MemoryFault() },
			kvm.MemoryFault{Flags: 8, Addr: 0x1000, Size: 0x2000},
		},
		{
			runPage(kvm.ExitUnknown, 5),
			func(e *kvm.Exit) any { return e.HardwareExitReason() },
			uint64(5),
		},
	} {
		e := kvm.Decode(c.page)
		if d := cmp.Diff(c.want, c.get(e)); d != "" {
			t.Errorf("%v (-want +got):\n%s", e.Reason, d)
		}
	}
}

// Whatever the shared region holds, decoding it neither panics nor leads outside.
func FuzzExit(f *testing.F) {
	for r := range kvm.ExitReason(kvm.NumExitReasons) {
		f.Add(uint32(r), []byte{1, 4, 0x10, 0, 1, 0, 0, 0, 0, 0x10})
	}
	f.Add(uint32(kvm.ExitMalformed), []byte(nil))
	f.Fuzz(func(t *testing.T, reason uint32, union []byte) {
		page := runPage(kvm.ExitReason(reason))
		copy(page[runUnion:], union)
		e := kvm.Decode(page)
		inside := func(b []byte) {
			if len(b) == 0 {
				return
			}
			b[0], b[len(b)-1] = 0xaa, 0xaa
			if cap(b) != len(b) {
				t.Errorf("%v: data of %d bytes can grow to %d", e.Reason, len(b), cap(b))
			}
		}
		io, m := e.IO(), e.MMIO()
		if len(io.Data) != io.Size*io.Count || len(m.Data) != m.Len || m.Len > 8 {
			t.Errorf("%v: lengths differ: %d bytes for %d*%d, %d for %d", e.Reason, len(io.Data), io.Size, io.Count, len(m.Data), m.Len)
		}
		inside(io.Data)
		inside(m.Data)
		if n := len(e.SystemEvent().Data); n > 16 {
			t.Errorf("%d words of a system event", n)
		}
		if i := e.InternalError(); len(i.Data) > 16 || len(i.Instruction) > 15 {
			t.Errorf("%d words, %d bytes of an internal error", len(i.Data), len(i.Instruction))
		}
		_, _, _, _, _ = e.Debug(), e.Hypercall(), e.MSR(), e.FailEntry(), e.ArmNISV()
		_, _, _, _ = e.Xen(), e.MemoryFault(), e.HardwareExitReason(), e.Reason.String()
	})
}

func TestExitReasonNames(t *testing.T) {
	seen := map[string]kvm.ExitReason{}
	for r := range kvm.ExitReason(kvm.NumExitReasons) {
		name := r.String()
		if other, ok := seen[name]; ok || name == "" {
			t.Errorf("reasons %d and %d are both %q", uint32(other), uint32(r), name)
		}
		seen[name] = r
	}
	if s := kvm.ExitReason(1000).String(); s != "exit-1000" {
		t.Error(s)
	}
}
