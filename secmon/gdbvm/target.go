package gdbvm

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync/atomic"
	"time"

	"warder/secmon/gdbstub"
	"warder/vmm"
	"warder/vmm/pagetable"
)

// Config is what a target knows besides its machine.
type Config struct {
	// Kernel is the path of the machine's kernel, whose symbols are read when they
	// are asked for; "" for none.
	Kernel string
	// Linked says that the kernel runs where it was linked: its symbols are then
	// known before it shows itself.
	Linked bool
	Log    *slog.Logger
}

// target is a machine with a debugger.
type target struct {
	stub *Stub
	m    *vmm.Machine
	cfg  Config
	d    *vmm.Debugger
	stop gdbstub.Stop

	breaks []gdbstub.Break // that are not breakpoint instructions
	code   []gdbstub.Break // that are
	kernel pagetable.Space // of a vCPU that was in the kernel, if kernelSeen
	seen   bool
	file   []byte // the kernel's symbols, once they are asked for

	stops     chan gdbstub.Stop
	interrupt chan struct{}
	cancel    context.CancelFunc // ends the wait for a stop; nil when there is none
	waiting   chan struct{}      // closed when it has ended
}

// A Stub makes one machine the target of debuggers, one after the other.
type Stub struct {
	m    *vmm.Machine
	cfg  Config
	held atomic.Pointer[vmm.Debugger] // of a machine that waits for its first
}

// Of makes the stub of a machine.
func Of(m *vmm.Machine, cfg Config) *Stub {
	if cfg.Log == nil {
		cfg.Log = slog.Default()
	}
	return &Stub{m: m, cfg: cfg}
}

// Hold has a machine that has not been started wait, before its first
// instruction, for a debugger.
func (s *Stub) Hold() error {
	d, err := s.m.Debug()
	if err != nil {
		return err
	}
	s.held.Store(d)
	return d.Halt()
}

// Attach gives the machine as the target of one debugger, for gdbstub.Serve.
func (s *Stub) Attach() (gdbstub.Target, error) {
	return &target{stub: s, m: s.m, cfg: s.cfg, stops: make(chan gdbstub.Stop, 1), interrupt: make(chan struct{}, 1)}, nil
}

// Attach implements gdbstub.Target.
func (t *target) Attach() (gdbstub.Stop, error) {
	if t.d = t.stub.held.Swap(nil); t.d == nil {
		var err error
		if t.d, err = t.m.Debug(); err != nil {
			return t.stop, err
		}
	}
	if err := t.d.Halt(); err != nil {
		return t.stop, errors.Join(err, t.d.Close())
	}
	t.stop = gdbstub.Stop{Reason: gdbstub.Interrupted, Thread: 1}
	t.look()
	if err := t.catch(); err != nil {
		return t.stop, errors.Join(err, t.d.Close())
	}
	return t.stop, nil
}

// For how long, and after how long at the most, a guest is stopped again that was
// not caught in its kernel. The wait varies: the ticks of a guest can be in step with
// the host's, and a guest that is stopped at these alone be at the same place always.
const (
	catchFor   = 5 * time.Second
	catchAfter = 10 * time.Millisecond
)

// catch has the guest stand where a vCPU runs the kernel, if it can be had soon:
// one that hides itself from programs can be found from there alone.
func (t *target) catch() error {
	if t.cfg.Kernel == "" || t.cfg.Linked {
		return nil
	}
	var all []vmm.Resumption
	for _, thread := range t.Threads() {
		all = append(all, vmm.Resumption{VCPU: thread.ID - 1})
	}
	for start := time.Now(); !t.seen && time.Since(start) < catchFor; {
		if err := t.d.Resume(all...); err != nil {
			return err
		}
		time.Sleep(rand.N(catchAfter))
		if err := t.d.Halt(); err != nil {
			return err
		}
		t.look()
	}
	return nil
}

// Detach implements gdbstub.Target.
func (t *target) Detach() error {
	t.endWait()
	return t.d.Close()
}

// Kill implements gdbstub.Target.
func (t *target) Kill() error {
	t.m.Kill()
	t.endWait()
	return t.d.Close()
}

// Description implements gdbstub.Target.
func (t *target) Description() string { return describe(runtime.GOARCH, vmm.RegisterSets()) }

// Threads implements gdbstub.Target.
func (t *target) Threads() []gdbstub.ThreadInfo {
	var all []gdbstub.ThreadInfo
	for id := 0; ; id++ {
		v := t.m.VCPU(id)
		if v == nil {
			return all
		}
		all = append(all, gdbstub.ThreadInfo{ID: id + 1, Name: fmt.Sprintf("vCPU %d", id)})
	}
}

// ReadRegisters implements gdbstub.Target.
func (t *target) ReadRegisters(thread int) (all []byte, err error) {
	err = t.d.On(thread-1, func(v *vmm.VCPU) error {
		all, err = v.ReadRegisters()
		return err
	})
	return all, err
}

// WriteRegister implements gdbstub.Target.
func (t *target) WriteRegister(thread, n int, value []byte) error {
	return t.d.On(thread-1, func(v *vmm.VCPU) error { return v.WriteRegister(n, value) })
}

// space is how a thread translates addr. A kernel that hides itself from
// programs is found as it was last seen from inside.
func (t *target) space(thread int, addr uint64) (s pagetable.Space, err error) {
	err = t.d.On(thread-1, func(v *vmm.VCPU) error {
		s, err = v.AddressSpace()
		return err
	})
	if err != nil || !t.seen || addr>>63 == 0 {
		return s, err
	}
	if !t.d.Maps(s, addr) {
		s = t.kernel
	}
	return s, nil
}

// look notes how a vCPU translates that runs the kernel.
func (t *target) look() {
	for _, thread := range t.Threads() {
		_ = t.d.On(thread.ID-1, func(v *vmm.VCPU) error { // one that can't be asked shows nothing
			in, err := v.InKernel()
			if err != nil || !in {
				return err
			}
			s, err := v.AddressSpace()
			if err == nil {
				t.kernel, t.seen = s, true
			}
			return err
		})
	}
}

// ReadMemory implements gdbstub.Target.
func (t *target) ReadMemory(thread int, addr uint64, p []byte) (int, error) {
	s, err := t.space(thread, addr)
	if err != nil {
		return 0, err
	}
	return t.d.Read(s, addr, p)
}

// WriteMemory implements gdbstub.Target.
func (t *target) WriteMemory(thread int, addr uint64, p []byte) error {
	s, err := t.space(thread, addr)
	if err != nil {
		return err
	}
	return t.d.Write(s, addr, p)
}

var accesses = map[gdbstub.BreakKind]vmm.Access{
	gdbstub.Software: vmm.Execute, gdbstub.Hardware: vmm.Execute,
	gdbstub.WatchWrite: vmm.Write, gdbstub.WatchRead: vmm.Read, gdbstub.WatchAccess: vmm.ReadWrite,
}

// Insert implements gdbstub.Target. Where KVM does not tell of breakpoint
// instructions, or nothing is mapped yet, a breakpoint is one of hardware.
func (t *target) Insert(thread int, b gdbstub.Break) error {
	if slices.Contains(t.breaks, b) || slices.Contains(t.code, b) {
		return nil
	}
	if b.Kind == gdbstub.Software {
		s, err := t.space(thread, b.Addr)
		if err == nil {
			err = t.d.Break(s, b.Addr)
		}
		if err == nil {
			t.code = append(t.code, b)
			return nil
		}
	}
	breaks := append(slices.Clone(t.breaks), b)
	if err := t.setHardware(breaks); err != nil {
		t.cfg.Log.Warn("the debugger can't have a breakpoint", "address", fmt.Sprintf("%#x", b.Addr), "err", err)
		return err
	}
	return nil
}

// Remove implements gdbstub.Target.
func (t *target) Remove(b gdbstub.Break) error {
	if i := slices.Index(t.code, b); i >= 0 {
		t.code = slices.Delete(t.code, i, i+1)
		return t.d.Unbreak(b.Addr)
	}
	i := slices.Index(t.breaks, b)
	if i < 0 {
		return nil
	}
	return t.setHardware(slices.Delete(slices.Clone(t.breaks), i, i+1))
}

func (t *target) setHardware(breaks []gdbstub.Break) error {
	var w []vmm.Watchpoint
	for _, b := range breaks {
		w = append(w, vmm.Watchpoint{Addr: b.Addr, Len: b.Len, Access: accesses[b.Kind]})
	}
	if err := t.d.SetWatchpoints(w); err != nil {
		return err
	}
	t.breaks = breaks
	return nil
}

// Stops implements gdbstub.Target.
func (t *target) Stops() <-chan gdbstub.Stop { return t.stops }

// Interrupt implements gdbstub.Target.
func (t *target) Interrupt() error {
	select {
	case t.interrupt <- struct{}{}:
	default:
	}
	return nil
}

// Resume implements gdbstub.Target.
func (t *target) Resume(actions []gdbstub.Action) error {
	t.endWait()
	select {
	case <-t.interrupt:
	default:
	}
	var which []vmm.Resumption
	for _, a := range actions {
		which = append(which, vmm.Resumption{VCPU: a.Thread - 1, Step: a.Step})
	}
	if err := t.d.Resume(which...); err != nil && !t.ended() {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	t.cancel, t.waiting = cancel, make(chan struct{})
	go t.wait(ctx)
	return nil
}

func (t *target) ended() bool {
	select {
	case <-t.m.Done():
		return true
	default:
		return false
	}
}

// endWait ends the goroutine that waits for a stop.
func (t *target) endWait() {
	if t.cancel != nil {
		t.cancel()
		<-t.waiting
		t.cancel = nil
	}
}

// wait waits for what stops the machine, has all of it stop, and tells.
func (t *target) wait(ctx context.Context) {
	defer close(t.waiting)
	select {
	case <-ctx.Done():
		return
	case <-t.m.Done():
	case <-t.interrupt:
	case <-t.d.Hits():
	}
	if err := t.d.Halt(); err != nil {
		<-t.m.Done() // it fails only at the end
	}
	if t.ended() {
		t.stops <- exited(t.m.Wait())
		return
	}
	t.look()
	if s, ok := t.d.Stop(); ok {
		t.stop = t.translate(s)
	} else {
		t.stop = gdbstub.Stop{Reason: gdbstub.Interrupted, Thread: max(t.stop.Thread, 1)}
	}
	t.stops <- t.stop
}

func exited(e vmm.Exit) gdbstub.Stop {
	switch e.Reason {
	case vmm.PowerOff, vmm.Reset:
		return gdbstub.Stop{Reason: gdbstub.Exited}
	}
	return gdbstub.Stop{Reason: gdbstub.Killed}
}

// translate says a vCPU's stop in the debugger's words.
func (t *target) translate(s vmm.Stop) gdbstub.Stop {
	stop := gdbstub.Stop{Thread: s.VCPU + 1, Reason: gdbstub.Hit, Break: gdbstub.Break{Addr: s.Addr}}
	of := func(watch bool, covers func(gdbstub.Break) bool) {
		i := slices.IndexFunc(t.breaks, func(b gdbstub.Break) bool { return (b.Kind > gdbstub.Hardware) == watch && covers(b) })
		if i >= 0 {
			stop.Break.Kind = t.breaks[i].Kind
		}
	}
	switch s.Reason {
	case vmm.Stepped:
		stop.Reason = gdbstub.Stepped
	case vmm.AtBreakpoint:
		stop.Break.Kind = gdbstub.Software
	case vmm.AtHardwareBreakpoint:
		stop.Break.Kind = gdbstub.Hardware
		of(false, func(b gdbstub.Break) bool { return b.Addr == s.Addr })
	case vmm.AtWatchpoint:
		stop.Break.Kind = gdbstub.WatchAccess
		of(true, func(b gdbstub.Break) bool { return s.Addr-b.Addr < b.Len })
	}
	return stop
}

var _ gdbstub.Target = (*target)(nil)
