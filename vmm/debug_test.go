package vmm_test

import (
	"encoding/binary"
	"errors"
	"slices"
	"testing"
	"time"

	"warder/devices/guestmem"
	"warder/internal/testkvm"
	"warder/vmm"
)

// debugging is a debugger on a guest of a few instructions that stands before
// the first.
type debugging struct {
	*vmm.Debugger
	m *vmm.Machine
	t *testing.T
}

func debug(t *testing.T) debugging {
	t.Helper()
	m := raw(t, codeDebug)
	d, err := m.Debug()
	if err != nil {
		t.Fatal(err)
	}
	g := debugging{d, m, t}
	g.check(d.Halt())
	g.check(m.Start())
	g.check(d.Halt())
	return g
}

func (g debugging) check(err error) {
	g.t.Helper()
	if err != nil {
		g.t.Fatal(err)
	}
}

// resume has the vCPU go on and waits for what it stops for.
func (g debugging) resume(step bool) vmm.Stop {
	g.t.Helper()
	g.check(g.Resume(vmm.Resumption{Step: step}))
	select {
	case <-g.Hits():
	case <-g.m.Done():
		g.t.Fatalf("the machine ended: %v\n%v", g.m.Wait(), g.m.Wait().Report)
	case <-time.After(time.Minute):
		g.t.Fatal("the vCPU did not stop")
	}
	g.check(g.Halt())
	s, ok := g.Stop()
	if !ok {
		g.t.Fatal("a hit without a stop")
	}
	return s
}

func (g debugging) do(f func(*vmm.VCPU) error) {
	g.t.Helper()
	g.check(g.m.Do(f))
}

func (g debugging) register(name string) (value uint64) {
	g.t.Helper()
	g.do(func(v *vmm.VCPU) error {
		all, err := v.ReadRegisters()
		for _, s := range vmm.RegisterSets() {
			for _, r := range s.Registers {
				if r.Name == name {
					value = binary.LittleEndian.Uint64(all)
					return err
				}
				all = all[r.Size:]
			}
		}
		return errors.New("no such register")
	})
	return value
}

func (g debugging) setRegister(name string, value uint64) {
	g.t.Helper()
	g.do(func(v *vmm.VCPU) error { return writeRegister(v, name, value) })
}

func writeRegister(v *vmm.VCPU, name string, value uint64) error {
	n := 0
	for _, s := range vmm.RegisterSets() {
		i := slices.IndexFunc(s.Registers, func(r vmm.RegisterSpec) bool { return r.Name == name })
		if i >= 0 {
			return v.WriteRegister(n+i, binary.LittleEndian.AppendUint64(nil, value)[:s.Registers[i].Size])
		}
		n += len(s.Registers)
	}
	return errors.New("no such register")
}

// cell is what the guest has in its cell.
func (g debugging) cell() uint32 {
	g.t.Helper()
	v, err := g.m.Memory().LoadUint32(debugCells)
	g.check(err)
	return v
}

// finish takes the debugger away; the guest goes on to its end.
func (g debugging) finish() {
	g.t.Helper()
	g.check(g.Close())
	select {
	case <-g.m.Done():
	case <-time.After(time.Minute):
		g.t.Fatal("the guest did not go on without the debugger")
	}
	if e := g.m.Wait(); e.Reason != vmm.PowerOff {
		g.t.Errorf("ended by %v\n%v", e, e.Report)
	}
}

func TestStepping(t *testing.T) {
	g := debug(t)
	if _, err := g.m.Debug(); err == nil {
		t.Error("a machine has two debuggers")
	}
	if pc := g.register(pcName); pc != debugSteps[0] {
		t.Fatalf("the guest stands at %#x before its first instruction", pc)
	}
	for i, want := range debugSteps[1:] {
		s := g.resume(true)
		if s.Reason != vmm.Stepped || s.Addr != want || g.register(pcName) != want {
			t.Fatalf("step %d: %+v at %#x, want %#x", i, s, g.register(pcName), want)
		}
	}
	if g.register(debugLoaded) != 1 || g.cell() != 1 {
		t.Errorf("after the steps: register %#x, memory %#x", g.register(debugLoaded), g.cell())
	}
	if flags := g.register(debugSaved); flags&debugTrap != 0 {
		t.Errorf("the guest sees in its flags that it was stepped: %#x", flags)
	}
	g.finish()
}

func TestRegistersAreSet(t *testing.T) {
	g := debug(t)
	for g.register(pcName) != debugSteps[debugStore] {
		g.resume(true)
	}
	g.setRegister(debugLoaded, 42)
	for g.register(pcName) != debugLast {
		g.resume(true)
	}
	if g.cell() != 42 {
		t.Errorf("the guest stored %d, not what its register was set to", g.cell())
	}
	// Each register that can be read can be set to what it is.
	g.do(func(v *vmm.VCPU) error {
		before, err := v.ReadRegisters()
		if err != nil {
			return err
		}
		n, at := 0, before
		for _, s := range vmm.RegisterSets() {
			for _, r := range s.Registers {
				if err := v.WriteRegister(n, at[:r.Size]); err != nil {
					t.Error(err)
				}
				n, at = n+1, at[r.Size:]
			}
		}
		after, err := v.ReadRegisters()
		if !slices.Equal(before, after) {
			t.Errorf("setting registers to what they are changed them:\n%x\n%x", before, after)
		}
		if v.WriteRegister(n, nil) == nil || v.WriteRegister(-1, nil) == nil {
			t.Error("a register that is none could be set")
		}
		return err
	})
	g.finish()
}

func TestHardwareBreakpoint(t *testing.T) {
	testkvm.Need(t)
	g := debug(t)
	g.check(g.SetWatchpoints([]vmm.Watchpoint{{Addr: debugLast, Access: vmm.Execute}}))
	if s := g.resume(false); s.Reason != vmm.AtHardwareBreakpoint || s.Addr != debugLast || g.register(pcName) != debugLast {
		t.Errorf("%+v at %#x", s, g.register(pcName))
	}
	g.finish()
}

func TestWatchpoint(t *testing.T) {
	testkvm.Need(t)
	g := debug(t)
	g.check(g.SetWatchpoints([]vmm.Watchpoint{{Addr: debugCells + 2, Len: 1, Access: vmm.Write}, {Addr: debugCells + 16, Len: 8, Access: vmm.ReadWrite}}))
	s := g.resume(false)
	at := debugSteps[debugStore]
	if storeIsDone {
		at = debugSteps[debugStore+1]
	}
	if s.Reason != vmm.AtWatchpoint || s.Addr != debugCells+2 || g.register(pcName) != at || (g.cell() == 1) != storeIsDone {
		t.Errorf("%+v at %#x, memory %d", s, g.register(pcName), g.cell())
	}
	g.finish()
}

// TestWatchpointsAreLimited asks for more than the registers do.
func TestWatchpointsAreLimited(t *testing.T) {
	g := debug(t)
	many := make([]vmm.Watchpoint, 17)
	for i := range many {
		many[i] = vmm.Watchpoint{Addr: debugCells + 8*uint64(i), Len: 8, Access: vmm.Write}
	}
	for name, w := range map[string][]vmm.Watchpoint{
		"many": many, "empty": {{Addr: debugCells, Access: vmm.Write}},
		"huge":    {{Addr: debugCells, Len: 1 << 40, Access: vmm.Write}},
		"wrapped": {{Addr: ^uint64(0), Len: 8, Access: vmm.Write}},
	} {
		if err := g.SetWatchpoints(w); err == nil {
			t.Errorf("%s: taken", name)
		} else if _, ok := errors.AsType[*vmm.LimitError](err); !ok {
			t.Errorf("%s: %v", name, err)
		}
	}
	g.finish()
}

// TestBreakpointInstruction needs a KVM that tells of them.
func TestBreakpointInstruction(t *testing.T) {
	needBreakpoints(t)
	g := debug(t)
	var was [4]byte
	g.check(g.m.Memory().ReadAt(was[:], guestmem.Addr(debugLast)))
	g.do(func(v *vmm.VCPU) error {
		s, err := v.AddressSpace()
		if err != nil {
			return err
		}
		if err := g.Break(s, debugLast); err != nil {
			return err
		}
		var now, seen [4]byte
		if err := g.m.Memory().ReadAt(now[:], guestmem.Addr(debugLast)); err != nil || now == was {
			t.Errorf("no breakpoint is in memory: % x, %v", now, err)
		}
		if n, err := g.Read(s, debugLast, seen[:]); n != 4 || err != nil || seen != was {
			t.Errorf("a debugger sees % x, want % x: %v", seen, was, err)
		}
		// What is written goes under the breakpoint.
		if err := g.Write(s, debugLast, was[:]); err != nil {
			return err
		}
		if err := g.m.Memory().ReadAt(seen[:], guestmem.Addr(debugLast)); err != nil || seen != now {
			t.Errorf("a write took the breakpoint away: % x, %v", seen, err)
		}
		return nil
	})
	for range 2 { // it is told again when the guest goes on into it
		if s := g.resume(false); s.Reason != vmm.AtBreakpoint || s.Addr != debugLast || g.register(pcName) != debugLast {
			t.Errorf("%+v at %#x", s, g.register(pcName))
		}
	}
	g.finish()
	var now [4]byte
	g.check(g.m.Memory().ReadAt(now[:], guestmem.Addr(debugLast)))
	if now != was {
		t.Errorf("the debugger left % x in memory", now)
	}
}
