package testkvm

import (
	"testing"

	"golang.org/x/sys/unix"

	"warder/kvm"
)

// Size is the bytes of a Guest's memory, which starts at Base.
const Size = 1 << 20

// Guest is a VM of one vCPU and Size bytes of memory, with no interrupt
// controller: for guests of a dozen instructions.
type Guest struct {
	System *kvm.System
	VM     *kvm.VM
	CPU    *kvm.VCPU
	Memory []byte
}

// NewGuest makes a guest that is about to execute code, which is copied to Base:
// in real mode on amd64, at EL1 without the MMU on arm64. Options run on the VM
// before it has a vCPU.
func NewGuest(t testing.TB, code []byte, options ...func(*kvm.VM)) *Guest {
	t.Helper()
	g := &Guest{System: Open(t)}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	var err error
	g.VM, err = g.System.CreateVM(0)
	must(err)
	t.Cleanup(func() { check(t, g.VM.Close()) })
	for _, o := range options {
		o(g.VM)
	}
	g.Memory, err = unix.Mmap(-1, 0, Size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_ANONYMOUS)
	must(err)
	t.Cleanup(func() { check(t, unix.Munmap(g.Memory)) })
	copy(g.Memory, code)
	must(g.VM.SetMemory(kvm.MemoryRegion{GuestPhys: Base, Size: Size, Memory: g.Memory}))
	g.CPU, err = g.VM.CreateVCPU(0)
	must(err)
	t.Cleanup(func() { check(t, g.CPU.Close()) })
	g.reset(t)
	return g
}

// Run runs the vCPU until it exits, and fails the test unless the reason is want.
func (g *Guest) Run(t testing.TB, want kvm.ExitReason) *kvm.Exit {
	t.Helper()
	for {
		err := g.CPU.Run()
		if err == unix.EINTR {
			continue // the runtime's own signals
		}
		if err != nil {
			t.Fatalf("KVM_RUN: %v", err)
		}
		e := g.CPU.Exit()
		if e.Reason != want {
			t.Fatalf("exit %v, want %v", e.Reason, want)
		}
		return e
	}
}
