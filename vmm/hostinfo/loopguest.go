package hostinfo

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"

	"warder/kvm"
)

// loopGuest is a VM of one page that counts down a register and exits.
type loopGuest struct {
	vm     *kvm.VM
	cpu    *kvm.VCPU
	memory []byte
}

func newLoopGuest(sys *kvm.System) (g *loopGuest, err error) {
	g = new(loopGuest)
	defer func() {
		if err != nil {
			err = errors.Join(err, g.close())
		}
	}()
	if g.vm, err = sys.CreateVM(0); err != nil {
		return nil, err
	}
	g.memory, err = unix.Mmap(-1, 0, os.Getpagesize(), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_ANONYMOUS)
	if err != nil {
		return nil, os.NewSyscallError("mmap", err)
	}
	copy(g.memory, loopCode)
	r := kvm.MemoryRegion{GuestPhys: loopBase, Size: uint64(len(g.memory)), Memory: g.memory}
	if err = g.vm.SetMemory(r); err != nil {
		return nil, err
	}
	if g.cpu, err = g.vm.CreateVCPU(0); err != nil {
		return nil, err
	}
	return g, g.start()
}

func (g *loopGuest) close() error {
	var errs []error
	if g.cpu != nil {
		errs = append(errs, g.cpu.Close())
	}
	if g.vm != nil {
		errs = append(errs, g.vm.Close())
	}
	if g.memory != nil {
		errs = append(errs, unix.Munmap(g.memory))
	}
	return errors.Join(errs...)
}
