package vmm

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"warder/kvm"
)

// handle carries out the exit that KVM_RUN has just returned with, and says
// how the machine ends if it ends by it.
func (v *VCPU) handle() *Exit {
	e := v.fd.Exit()
	v.stats.count(uint32(e.Reason))
	v.observe(e)
	switch e.Reason {
	case kvm.ExitMMIO:
		v.handleMMIO(e.MMIO())
		return nil
	case kvm.ExitSystemEvent:
		return v.handleSystemEvent(e.SystemEvent())
	case kvm.ExitUnknown:
		return v.crash(fmt.Errorf("the CPU left the guest for a reason that KVM does not know (%#x)", e.HardwareExitReason()))
	case kvm.ExitFailEntry:
		f := e.FailEntry()
		return v.crash(fmt.Errorf("the CPU refused to enter the guest (hardware reason %#x)", f.HardwareReason))
	case kvm.ExitInternalError:
		return v.crash(internalError(e.InternalError()))
	case kvm.ExitShutdown:
		return v.crash(errors.New("triple fault: the guest's fault handlers fault themselves"))
	}
	return v.handleArch(e)
}

// handleMMIO is an access to guest-physical memory that is not RAM. Where
// there is no device reads give zeros, as an open bus gives a fixed pattern,
// and writes go nowhere.
func (v *VCPU) handleMMIO(a kvm.MMIO) {
	if v.callByStore(a) {
		return
	}
	found := false
	if a.IsWrite {
		found = v.m.mmio.Write(a.Addr, a.Data)
	} else {
		clear(a.Data)
		found = v.m.mmio.Read(a.Addr, a.Data)
	}
	if !found {
		v.stray(a.Addr, false, a.IsWrite, a.Data)
	}
}

func (v *VCPU) handleSystemEvent(s kvm.SystemEvent) *Exit {
	switch s.Type {
	case kvm.SystemEventShutdown:
		return &Exit{Reason: PowerOff}
	case kvm.SystemEventReset:
		return &Exit{Reason: Reset}
	}
	return v.crash(fmt.Errorf("system event %v", s.Type))
}

// crash is the end of a machine at vCPU v, with what is known of v.
func (v *VCPU) crash(err error) *Exit {
	v.act(Act{Kind: Crash, Message: err.Error()})
	return &Exit{Reason: Crashed, Err: err, Report: v.Report()}
}

func internalError(e kvm.InternalError) error {
	switch e.Suberror {
	case kvm.InternalErrorEmulation:
		return fmt.Errorf("KVM can't emulate the instruction (bytes % x)", e.Instruction)
	case kvm.InternalErrorSimultaneous:
		return errors.New("KVM met several exceptions at once that it can't deliver")
	case kvm.InternalErrorDelivery:
		return errors.New("KVM met an exit while it delivered an event to the guest")
	}
	return fmt.Errorf("KVM internal error %d, data %#x", e.Suberror, e.Data)
}

// runError explains what KVM_RUN itself failed with.
func runError(err error) error {
	switch {
	case errors.Is(err, unix.EFAULT):
		return fmt.Errorf("the guest used memory that the host does not let it have: %w", err)
	case errors.Is(err, unix.ENOSYS):
		return fmt.Errorf("the guest used an instruction on a device that KVM can't take apart: %w", err)
	case errors.Is(err, unix.ENOMEM):
		return fmt.Errorf("the host has no memory left for the guest: %w", err)
	}
	return fmt.Errorf("KVM_RUN: %w", err)
}

// An ExitEvent is one return of a vCPU to the host, as an observer sees it.
type ExitEvent struct {
	VCPU   int
	Reason string // KVM's exit reason
	// Addr is the port or guest-physical address of an access; Size its bytes.
	Addr  uint64
	Size  int
	Write bool
}

// An ExitFunc is told of every exit before it is handled, on the vCPU's
// thread: it must be quick, and must not wait for a vCPU.
type ExitFunc func(ExitEvent)

// Observe sets the function that is told of exits; nil for none.
func (m *Machine) Observe(f ExitFunc) {
	if f == nil {
		m.observer.Store(nil)
		return
	}
	m.observer.Store(&f)
}

func (v *VCPU) observe(e *kvm.Exit) {
	f := v.m.observer.Load()
	if f == nil {
		return
	}
	ev := ExitEvent{VCPU: v.id, Reason: e.Reason.String()}
	switch e.Reason {
	case kvm.ExitIO:
		io := e.IO()
		ev.Addr, ev.Size, ev.Write = uint64(io.Port), len(io.Data), io.Direction == kvm.IOOut
	case kvm.ExitMMIO:
		a := e.MMIO()
		ev.Addr, ev.Size, ev.Write = a.Addr, a.Len, a.IsWrite
	}
	(*f)(ev)
}
