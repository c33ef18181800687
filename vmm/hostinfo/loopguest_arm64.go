package hostinfo

import (
	"encoding/binary"
	"slices"

	"warder/kvm"
)

const (
	loopBase = 0x40000000
	loopMMIO = 0x09000000 // no memory is there
	loopExit = kvm.ExitMMIO
)

// loopCode runs at EL1, without the MMU.
//
//	loop: subs x0, x0, #1; b.ne loop; str w1, [x2]; b loop
var loopCode = slices.Concat(
	word(0xf1000400), word(0x54ffffe1), word(0xb9000041), word(0x17fffffd),
)

func word(insn uint32) []byte { return binary.LittleEndian.AppendUint32(nil, insn) }

func (g *loopGuest) start() error {
	target, err := g.vm.PreferredTarget()
	if err != nil {
		return err
	}
	if err := g.cpu.Init(target); err != nil {
		return err
	}
	if err := g.cpu.SetOneReg(kvm.RegX(2), loopMMIO); err != nil {
		return err
	}
	return g.cpu.SetOneReg(kvm.RegPC, loopBase)
}

// setRounds makes the next run do n rounds.
func (g *loopGuest) setRounds(n uint64) error { return g.cpu.SetOneReg(kvm.RegX(0), n) }
