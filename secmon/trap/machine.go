package trap

import (
	"warder/devices/guestmem"
	"warder/secmon/introspect"
	"warder/vmm"
	"warder/vmm/pagetable"
)

// CPU is a vCPU that stands still; *vmm.VCPU is one.
type CPU interface {
	ID() int
	// PC is the address of the instruction that it stands at.
	PC() uint64
	// Arg is an argument, from 0, of the function that it stands at the start of.
	Arg(n int) uint64
	AddressSpace() (pagetable.Space, error)
	// StackPointer, ReturnAddress and SetReturnAddress are of that function.
	StackPointer() (uint64, error)
	ReturnAddress() (uint64, error)
	SetReturnAddress(pc uint64) error
	// Result is what a function returns that has just returned.
	Result() (uint64, error)
	// KernelBase is where the running task is found: see introspect.Guest.Current.
	KernelBase() (uint64, error)
	// SyscallEntry is an address in the kernel: see introspect.Kernel.Locate.
	SyscallEntry() (uint64, error)
}

// Memory is a guest's physical memory; *guestmem.Memory is one.
type Memory interface {
	pagetable.Memory
	pagetable.InPlace
}

// Machine is what traps need of a virtual machine. [Of] makes one.
type Machine interface {
	Memory() Memory
	// CPUs are the machine's vCPUs; they may be asked while it is paused.
	CPUs() []CPU
	// WithVCPUsStopped runs f while all vCPUs stand still.
	WithVCPUsStopped(f func() error) error
	// SetHook sets what a vCPU does at a hook, nil for nothing.
	SetHook(f HookFunc) error
	// Owner gives what make gave when it was first asked for.
	Owner(make func() any) any
}

// A HookFunc says what becomes of a vCPU at a hook.
type HookFunc func(CPU) vmm.TrapAction

// Of makes traps work on a machine of package vmm.
func Of(m *vmm.Machine) Machine { return machine{m} }

type machine struct{ m *vmm.Machine }

func (m machine) Memory() Memory { return m.m.Memory() }

func (m machine) WithVCPUsStopped(f func() error) error { return m.m.WithVCPUsStopped(f) }

func (m machine) CPUs() []CPU {
	var cpus []CPU
	for id := 0; ; id++ {
		v := m.m.VCPU(id)
		if v == nil {
			return cpus
		}
		cpus = append(cpus, v)
	}
}

func (m machine) SetHook(f HookFunc) error {
	if f == nil {
		return m.m.SetTrap(nil)
	}
	return m.m.SetTrap(func(v *vmm.VCPU) vmm.TrapAction { return f(v) })
}

func (m machine) Owner(make func() any) any { return m.m.TrapOwner(make) }

// pages reads a guest's memory through the address space of a vCPU, for one hit.
type pages struct {
	*pagetable.TLB
	mem Memory
}

// Physical implements introspect.Spaces.
func (p *pages) Physical(va uint64) (guestmem.Addr, error) { return p.Translate(va) }

// Of implements introspect.Spaces.
func (p *pages) Of(tables guestmem.Addr) introspect.Spaces {
	return view{p.Space().User(tables), p.mem}
}

// view reads a guest's memory through one address space.
type view struct {
	space pagetable.Space
	mem   Memory
}

func (v view) ReadAt(p []byte, va uint64) error { return v.space.Read(v.mem, va, p) }

// Physical implements introspect.Spaces.
func (v view) Physical(va uint64) (guestmem.Addr, error) {
	m, err := v.space.Translate(v.mem, va)
	return m.Addr, err
}

// Of implements introspect.Spaces.
func (v view) Of(tables guestmem.Addr) introspect.Spaces {
	return view{v.space.User(tables), v.mem}
}
