package hostinfo

import "warder/kvm"

const (
	loopBase = 0x10000
	loopExit = kvm.ExitIO
)

// loopCode is for real mode, which is ring 0 and needs no tables:
//
//	loop: dec ecx; jnz loop; out 0x10, al; jmp loop
var loopCode = []byte{0x66, 0x49, 0x75, 0xfc, 0xe6, 0x10, 0xeb, 0xf8}

func (g *loopGuest) start() error {
	s, err := g.cpu.GetSregs()
	if err != nil {
		return err
	}
	s.CS.Selector, s.CS.Base = loopBase>>4, loopBase
	if err := g.cpu.SetSregs(&s); err != nil {
		return err
	}
	return g.cpu.SetRegs(&kvm.Regs{RFLAGS: 2})
}

// setRounds makes the next run do n rounds.
func (g *loopGuest) setRounds(n uint64) error {
	r, err := g.cpu.GetRegs()
	if err != nil {
		return err
	}
	r.RCX = n
	return g.cpu.SetRegs(&r)
}
