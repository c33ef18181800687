package kvm_test

import (
	"errors"
	"os"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"warder/internal/testkvm"
	"warder/kvm"
)

// The second slot of a guest: eight pages behind the first.
const (
	second = testkvm.Base + testkvm.Size
	nPages = 8
)

func region(m []byte, flags uint32) kvm.MemoryRegion {
	return kvm.MemoryRegion{Slot: 1, Flags: flags, GuestPhys: second, Size: uint64(len(m)), Memory: m}
}

func TestSetMemory(t *testing.T) {
	g := testkvm.NewGuest(t, nil)
	m := pages(t, nPages)
	if err := g.VM.SetMemory(region(m, 0)); err != nil {
		t.Fatal(err)
	}
	overlap := region(m, 0)
	overlap.Slot = 2
	if err := g.VM.SetMemory(overlap); !errors.Is(err, unix.EEXIST) {
		t.Errorf("overlap: %v, want EEXIST", err)
	}
	var call *os.SyscallError
	if err := g.VM.SetMemory(overlap); !errors.As(err, &call) || call.Syscall != "KVM_SET_USER_MEMORY_REGION" {
		t.Errorf("the error does not name its call: %v", err)
	}
	odd := region(m[:100], 0)
	odd.Slot, odd.GuestPhys = 3, second<<1
	if err := g.VM.SetMemory(odd); !errors.Is(err, unix.EINVAL) {
		t.Errorf("size of 100 bytes: %v, want EINVAL", err)
	}
	lie := region(m, 0)
	lie.Size *= 2
	if err := g.VM.SetMemory(lie); err == nil {
		t.Error("a size that is not the memory's was taken")
	}
	if err := g.VM.SetMemory(kvm.MemoryRegion{Slot: 1}); err != nil {
		t.Errorf("delete: %v", err)
	}
	overlap.Slot = 1
	if err := g.VM.SetMemory(overlap); err != nil {
		t.Errorf("add again: %v", err)
	}
}

// The bitmap that the kernel writes is as long as the slot needs, or there is no
// call.
func TestDirtyLogBounds(t *testing.T) {
	g := testkvm.NewGuest(t, nil)
	m := pages(t, 65)
	if err := g.VM.SetMemory(region(m, kvm.MemLogDirtyPages)); err != nil {
		t.Fatal(err)
	}
	for name, err := range map[string]error{
		"short":         g.VM.GetDirtyLog(1, make([]uint64, 1)),
		"no such slot":  g.VM.GetDirtyLog(9, make([]uint64, 9)),
		"clear short":   g.VM.ClearDirtyLog(1, 0, 65, make([]uint64, 1)),
		"clear outside": g.VM.ClearDirtyLog(1, 64, 2, make([]uint64, 1)),
		"clear far":     g.VM.ClearDirtyLog(1, 1<<63, 1, make([]uint64, 1)),
	} {
		if call := new(os.SyscallError); err == nil || errors.As(err, &call) {
			t.Errorf("%s: %v, want an error of ours", name, err)
		}
	}
	if err := g.VM.GetDirtyLog(1, make([]uint64, 2)); err != nil {
		t.Error(err)
	}
}

// dirtyTwo makes the guest write to pages 6 and 1 of the second slot.
func dirtyTwo(t *testing.T, g *testkvm.Guest) {
	t.Helper()
	for _, p := range []uint64{6, 1} {
		store(t, g, second+p*uint64(os.Getpagesize()))
	}
}

const bitsTwo = 1<<6 | 1<<1

func TestDirtyLog(t *testing.T) {
	testkvm.Need(t)
	g := storeGuest(t)
	if err := g.VM.SetMemory(region(pages(t, nPages), kvm.MemLogDirtyPages)); err != nil {
		t.Fatal(err)
	}
	log := func() uint64 {
		t.Helper()
		var b [1]uint64
		if err := g.VM.GetDirtyLog(1, b[:]); err != nil {
			t.Fatal(err)
		}
		return b[0]
	}
	log()
	dirtyTwo(t, g)
	if got := log(); got != bitsTwo {
		t.Errorf("written pages %#b, want %#b", got, bitsTwo)
	}
	if got := log(); got != 0 {
		t.Errorf("written pages %#b after they were read", got)
	}
	dirtyTwo(t, g)
	if got := log(); got != bitsTwo {
		t.Errorf("written again: %#b, want %#b", got, bitsTwo)
	}
}

// With manual protection reading changes nothing, and single pages are cleared.
func TestClearDirtyLog(t *testing.T) {
	testkvm.Need(t)
	g := storeGuest(t)
	testkvm.NeedCap(t, g.VM, kvm.CapManualDirtyLogProtect2)
	if err := g.VM.EnableCap(kvm.CapManualDirtyLogProtect2, 0, kvm.DirtyLogManualProtect); err != nil {
		t.Fatal(err)
	}
	if err := g.VM.SetMemory(region(pages(t, nPages), kvm.MemLogDirtyPages)); err != nil {
		t.Fatal(err)
	}
	dirtyTwo(t, g)
	for _, step := range []struct{ clear, want uint64 }{{0, bitsTwo}, {1 << 6, 1 << 1}, {1 << 1, 0}} {
		if err := g.VM.ClearDirtyLog(1, 0, nPages, []uint64{step.clear}); err != nil {
			t.Fatal(err)
		}
		var b [1]uint64
		if err := g.VM.GetDirtyLog(1, b[:]); err != nil {
			t.Fatal(err)
		}
		if b[0] != step.want {
			t.Errorf("after clearing %#b: %#b, want %#b", step.clear, b[0], step.want)
		}
	}
}

// The dirty ring gives pages in the order of the writes, and again after a reset.
func TestDirtyRing(t *testing.T) {
	testkvm.Need(t)
	const entries = 1024
	g := storeGuest(t, func(vm *kvm.VM) {
		size := testkvm.NeedCap(t, vm, kvm.CapDirtyLogRingAcqRel)
		if size < entries*16 {
			t.Fatalf("a ring of %d bytes at most", size)
		}
		if err := vm.EnableCap(kvm.CapDirtyLogRingAcqRel, 0, entries*16); err != nil {
			t.Fatal(err)
		}
	})
	if err := g.VM.SetMemory(region(pages(t, nPages), kvm.MemLogDirtyPages)); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		dirtyTwo(t, g)
		got := slices.Collect(g.CPU.DirtyPages())
		want := []kvm.DirtyPage{{Slot: 1, Offset: 6}, {Slot: 1, Offset: 1}}
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("ring (-want +got):\n%s", d)
		}
		if n, err := g.VM.ResetDirtyRings(); err != nil || n != 2 {
			t.Errorf("%d entries taken back, %v", n, err)
		}
	}
}

// A write to an address with an ioeventfd signals it and does not exit; another
// value exits.
func TestIOEventFD(t *testing.T) {
	const notify = second + 0x50000
	g := storeGuest(t)
	testkvm.NeedCap(t, g.VM, kvm.CapIOEventFD)
	fd := eventfd(t)
	f := kvm.IOEventFD{Addr: notify, Len: 4, FD: fd, Flags: kvm.IOEventFDDatamatch, Datamatch: 7}
	if err := g.VM.IOEventFD(f); err != nil {
		t.Fatal(err)
	}
	if err := g.VM.IOEventFD(f); !errors.Is(err, unix.EEXIST) {
		t.Errorf("twice: %v, want EEXIST", err)
	}
	storeValue(t, g, notify, 7) // ends with the exit after the store
	if n := count(t, fd); n != 1 {
		t.Errorf("signalled %d times, want once", n)
	}
	if m := storeExits(t, g, notify, 8); m.Addr != notify || m.Data[0] != 8 {
		t.Errorf("a write of another value: %+v", m)
	}
	if n := count(t, fd); n != 0 {
		t.Errorf("signalled %d times by another value", n)
	}
	f.Flags |= kvm.IOEventFDDeassign
	if err := g.VM.IOEventFD(f); err != nil {
		t.Fatal(err)
	}
	if m := storeExits(t, g, notify, 7); m.Addr != notify {
		t.Errorf("after deassignment: %+v", m)
	}
}
