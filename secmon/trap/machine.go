package trap

import (
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
	// AddressSpace is how it translates addresses now.
	AddressSpace() (pagetable.Space, error)
	// KernelSpace is that for the kernel's addresses, at a hook; unless it is to be
	// sure, it may be as it was at one of the latest. WholeSpace completes it.
	KernelSpace(sure bool) (pagetable.Space, error)
	WholeSpace() (pagetable.Space, error)
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
