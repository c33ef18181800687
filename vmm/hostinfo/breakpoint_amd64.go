package hostinfo

import (
	"encoding/binary"
	"errors"
	"runtime"
	"sync"

	"warder/kvm"
)

// The guest of BreakpointsExit: an INT3, and a handler for it that says that the
// guest has got it. Real mode finds its vectors where IDTR points.
const (
	int3At      = 0x10
	handlerAt   = 0x20
	vectorBP    = 3 * 4
	handlerPort = 0x10
)

var breakpoints sync.Map // func() bool by path

// BreakpointsExit says whether the KVM at path tells of a guest's INT3 when it is
// asked to. KVM always says that it does; the processor has to support it, and
// the one that QEMU emulates does not.
func BreakpointsExit(path string) bool {
	if path == "" {
		path = kvm.Path
	}
	probe, _ := breakpoints.LoadOrStore(path, sync.OnceValue(func() bool {
		exits, err := breakpointExits(path)
		return err == nil && exits
	}))
	return probe.(func() bool)()
}

func breakpointExits(path string) (exits bool, err error) {
	sys, err := kvm.Open(path)
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, sys.Close()) }()
	g, err := newLoopGuest(sys)
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, g.close()) }()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()

	binary.LittleEndian.PutUint16(g.memory[vectorBP:], handlerAt)
	binary.LittleEndian.PutUint16(g.memory[vectorBP+2:], loopBase>>4)
	g.memory[int3At] = 0xcc
	copy(g.memory[handlerAt:], []byte{0xe6, handlerPort}) // out %al, $0x10
	s, err := g.cpu.GetSregs()
	if err != nil {
		return false, err
	}
	s.IDT = kvm.DescriptorTable{Base: loopBase, Limit: 0xff}
	s.SS.Selector, s.SS.Base = loopBase>>4, loopBase
	if err := g.cpu.SetSregs(&s); err != nil {
		return false, err
	}
	if err := g.cpu.SetRegs(&kvm.Regs{RFLAGS: 2, RIP: int3At, RSP: 0x800}); err != nil {
		return false, err
	}
	if err := g.cpu.SetGuestDebug(&kvm.GuestDebug{Control: kvm.DebugEnable | kvm.DebugSoftware}); err != nil {
		return false, err
	}
	reason, err := g.once()
	return reason == kvm.ExitDebug, err
}
