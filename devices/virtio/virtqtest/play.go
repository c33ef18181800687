package virtqtest

import (
	"testing"

	"warder/devices/guestmem"
	"warder/devices/virtio"
)

// Play drives dev by program, as a driver that is mostly right: chains of
// valid buffers, indirect ones, and now and then a wild descriptor, index or
// register, a reset in the middle, a doorbell for nothing. The device must take
// all of it, and must stop when it is told to. Then it is started once more, and
// the driver returned: the caller tries whether the device still works.
func Play(t testing.TB, dev virtio.Device, program []byte) *Driver {
	t.Helper()
	return PlayIn(t, NewMemory(t), dev, program)
}

// PlayIn is Play in memory that dev knows, of NewMemory.
func PlayIn(t testing.TB, mem *guestmem.Memory, dev virtio.Device, program []byte) *Driver {
	t.Helper()
	d := NewDriverIn(t, mem, dev)
	p := player{Driver: d, program: program}
	d.Start(virtio.FEventIdx | virtio.FIndirectDesc)
	for len(p.program) > 0 {
		p.step()
	}
	d.stop()
	d.Start(0)
	return d
}

type player struct {
	*Driver
	program []byte
}

func (p *player) byte() byte {
	if len(p.program) == 0 {
		return 0
	}
	b := p.program[0]
	p.program = p.program[1:]
	return b
}

func (p *player) word() uint64 {
	var v uint64
	for range 8 {
		v = v<<8 | uint64(p.byte())
	}
	return v
}

// take is the next n bytes of the program, fewer at its end.
func (p *player) take(n int) []byte {
	n = min(n, len(p.program))
	b := p.program[:n]
	p.program = p.program[n:]
	return append([]byte{}, b...)
}

func (p *player) step() {
	op := p.byte()
	if len(p.Rings) == 0 {
		p.Start(virtio.FEventIdx)
	}
	i := int(p.byte()) % len(p.Rings)
	r := p.Rings[i]
	switch op % 16 {
	default: // mostly valid chains
		var bufs []Buffer
		for range p.byte() % 4 {
			bufs = append(bufs, Buffer{Data: p.take(int(p.byte()))})
		}
		for range p.byte() % 4 {
			bufs = append(bufs, Buffer{Room: int(p.byte()) * 8})
		}
		if len(bufs) == 0 {
			return
		}
		if op&0x80 != 0 {
			r.AddIndirect(bufs...)
		} else {
			r.Add(bufs...)
		}
		p.Kick(i)
	case 8: // any descriptor
		r.PutDesc(r.Desc(), uint16(p.byte())%r.Size, Desc{
			Addr: guestmem.Addr(p.word()), Len: uint32(p.word()), Flags: uint16(p.byte()), Next: uint16(p.byte()),
		})
	case 9: // any head
		r.PutAvail(uint16(p.byte()))
		p.Kick(i)
	case 10: // any index
		r.PutAvailIdx(uint16(p.word()))
		p.Kick(i)
	case 11: // any register; the addresses of queues are not wild most of the time
		p.Put(uint64(p.byte())*4, uint32(p.word()))
	case 12: // any access to the configuration
		buf := make([]byte, p.byte()%9)
		p.Write(RegConfig+uint64(p.byte()), buf)
		p.Read(RegConfig+uint64(p.byte()), buf)
	case 13:
		p.Put(RegStatus, 0)
		p.Start(virtio.FEventIdx * uint64(p.byte()&1))
	case 14:
		for range 4 {
			r.Take()
		}
		p.Put(RegInterruptACK, uint32(p.byte()))
	case 15: // any byte of the rings
		must(p.Mem.WriteAt([]byte{p.byte()}, r.start+guestmem.Addr(p.word()%uint64(r.free-r.start))))
	}
}
