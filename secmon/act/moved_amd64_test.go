package act_test

import (
	"bytes"
	"encoding/binary"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"warder/boot/kernelpkg"
	"warder/internal/testguest"
	"warder/internal/testkvm"
	"warder/secmon/act"
	"warder/secmon/event"
	"warder/secmon/introspect"
	"warder/vmm"
	"warder/vmm/pagetable"
)

// over is what the last call of getppid gives.
const over = 4242

var calls = testguest.Register("calls", func(g *testguest.Guest) {
	g.Report("up", nil)
	for unix.Getppid() != over {
		unix.Nanosleep(&unix.Timespec{Nsec: 5e6}, nil)
	}
})

// memory reads a guest's by a vCPU's page tables.
type memory struct {
	space pagetable.Space
	mem   pagetable.Reader
}

func (m memory) ReadAt(p []byte, va uint64) error { return m.space.Read(m.mem, va, p) }

// TestEntryMovedInLinux has a running Linux write LSTAR by its own function for that, as
// a module of its kernel would: system calls enter behind the first instruction, which
// does nothing, and go on working; then it is put back.
func TestEntryMovedInLinux(t *testing.T) {
	testkvm.Need(t)
	pkg, err := kernelpkg.Default(runtime.GOARCH)
	if err != nil {
		t.Fatal(err)
	}
	kernel, err := introspect.OpenWhole(pkg.KernelPath)
	if err != nil {
		t.Fatal(err)
	}
	r := calls.Start(t, vmm.Config{})
	r.Event("up")
	var mu sync.Mutex
	var moved []string
	w := act.Watch(r.Machine, act.Config{VM: "vm", Kernel: kernel, Sink: func(e event.Event) {
		mu.Lock()
		defer mu.Unlock()
		if e.Action == act.EntryMoved {
			moved = append(moved, e.Access.OldSymbol+" -> "+e.Access.Symbol+" by "+e.Access.PCSymbol)
		}
	}})
	defer w.Close()
	var guest *introspect.Guest
	var entry, write uint64
	err = r.WithVCPUsStopped(func() error {
		v := r.VCPU(0)
		space, err := v.AddressSpace()
		if err != nil {
			return err
		}
		if entry, err = v.SyscallEntry(); err != nil {
			return err
		}
		if guest, err = kernel.Locate(memory{space, r.Memory()}, entry); err != nil {
			return err
		}
		if write, err = guest.Addr("native_write_msr"); err != nil {
			return err
		}
		return hookGetppid(t, v, guest)
	})
	if err != nil {
		t.Fatal(err)
	}
	var hits atomic.Int64
	err = r.SetTrap(func(v *vmm.VCPU) vmm.TrapAction {
		to := entry
		switch hits.Add(1) {
		case 1:
			to += 4 // endbr64
		case 10:
		case 20:
			return vmm.Return(over)
		default:
			return vmm.Pass
		}
		const lstar = 0xc000_0082
		for name, value := range map[string]uint64{"rdi": lstar, "rsi": to & 0xffff_ffff, "rdx": to >> 32} {
			if err := setRegister(v, name, value); err != nil {
				t.Error(err)
			}
		}
		return vmm.Call(write)
	})
	if err != nil {
		t.Fatal(err)
	}
	r.Finish()
	mu.Lock()
	defer mu.Unlock()
	for i := range moved {
		// The write's own place in the function is the compiler's.
		if at := "by native_write_msr+"; !strings.Contains(moved[i], at) {
			t.Errorf("%s, want it %s", moved[i], at)
		}
		moved[i], _, _ = strings.Cut(moved[i], " by ")
	}
	want := []string{"entry_SYSCALL_64 -> entry_SYSCALL_64+0x4", "entry_SYSCALL_64+0x4 -> entry_SYSCALL_64"}
	if d := cmp.Diff(want, moved); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}

// hookGetppid puts a hook at the NOP that the handler begins with.
func hookGetppid(t *testing.T, v *vmm.VCPU, guest *introspect.Guest) error {
	t.Helper()
	at, err := guest.Addr("__x64_sys_getppid")
	if err != nil {
		return err
	}
	begin := make([]byte, 16)
	if err := v.ReadVirtual(at, begin); err != nil {
		return err
	}
	i := bytes.Index(begin, []byte{0x0f, 0x1f, 0x44, 0x00, 0x00})
	if i < 0 {
		t.Fatalf("getppid begins with % x", begin)
	}
	return v.WriteVirtual(at+uint64(i), []byte{0xe6, 0xea, 0x90, 0x90, 0x90})
}

func setRegister(v *vmm.VCPU, name string, value uint64) error {
	n := 0
	for _, s := range vmm.RegisterSets() {
		if i := slices.IndexFunc(s.Registers, func(r vmm.RegisterSpec) bool { return r.Name == name }); i >= 0 {
			return v.WriteRegister(n+i, binary.LittleEndian.AppendUint64(nil, value))
		}
		n += len(s.Registers)
	}
	return nil
}
