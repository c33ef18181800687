package hosting

import (
	"context"
	"fmt"

	"warder/guestinit/proto"
	"warder/supervisor/sizing"
)

// sample tells how the guest fares.
func (v *held) sample(ctx context.Context) (sizing.Sample, error) {
	vm, err := v.up()
	if err != nil {
		return sizing.Sample{}, err
	}
	return vm.Sample(ctx)
}

// short waits until the guest is short of something.
func (v *held) short(ctx context.Context) (s proto.Shortage, err error) {
	vm, err := v.up()
	if err != nil {
		return s, err
	}
	select {
	case s = <-vm.Shortages():
		return s, nil
	case <-vm.Done():
		return s, errNoVM(v.decl.Name)
	case <-ctx.Done():
		return s, ctx.Err()
	}
}

// resize lets the VM have another size, no more than is declared and no more than
// all VMs may have together.
func (v *held) resize(ctx context.Context, from, to sizing.Size) error {
	vm, err := v.up()
	if err != nil {
		return err
	}
	claim, err := v.host.machines.Claim(v.decl)
	if err != nil {
		return err
	}
	memory, cpus := max(claim.Memory, uint64(v.decl.Memory.Most)), max(claim.VCPUs, v.decl.CPUs)
	if to.Memory > memory || to.CPUs > cpus {
		return fmt.Errorf("%s is declared to have no more than %d bytes of memory and %d CPUs", v.decl.Name, memory, cpus)
	}
	hasCPUs, hasMemory := v.host.most.Resize(v.decl.Name, to.CPUs, to.Memory)
	if hasMemory < to.Memory || hasCPUs < to.CPUs {
		return fmt.Errorf("%s cannot have that much beside the others", v.decl.Name)
	}
	return vm.Resize(ctx, from, to)
}
