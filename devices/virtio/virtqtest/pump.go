package virtqtest

import "warder/devices/guestmem"

// A Pump is the driver's side of a queue whose chains are all the same, as
// benchmarks have it: nothing is allocated, and there are no interrupts.
type Pump struct {
	d           *Driver
	ring        *Ring
	queue       int
	heads       []uint16 // that are not with the device
	used, avail uint16
}

// NewPump makes as many chains of bufs as queue has descriptors for. They share
// one set of buffers, whose content is of no interest.
func NewPump(d *Driver, queue int, bufs []Buffer) *Pump {
	p := &Pump{d: d, ring: d.Rings[queue], queue: queue}
	for head := uint16(0); int(head)+len(bufs) <= int(p.ring.Size); head += uint16(len(bufs)) {
		p.heads = append(p.heads, head)
	}
	var descs []Desc
	for i, buf := range bufs {
		desc := Desc{Len: uint32(len(buf.Data) + buf.Room)}
		if buf.Data == nil {
			desc.Flags = Write
		}
		desc.Addr = p.ring.Alloc(int(desc.Len))
		if buf.Data != nil {
			must(d.Mem.WriteAt(buf.Data, desc.Addr))
		}
		if i < len(bufs)-1 {
			desc.Flags |= Next
		}
		descs = append(descs, desc)
	}
	for _, head := range p.heads {
		for i, desc := range descs {
			desc.Next = head + uint16(i) + 1
			p.ring.PutDesc(p.ring.Desc(), head+uint16(i), desc)
		}
	}
	return p
}

// Add gives the device up to n chains more, rings if it wants to hear of it, and
// returns how many they are.
func (p *Pump) Add(n int) int {
	n = min(n, len(p.heads))
	if n == 0 {
		return 0
	}
	old := p.avail
	for range n {
		last := len(p.heads) - 1
		must(p.d.Mem.StoreUint16(p.ring.Avail()+4+2*guestmem.Addr(p.avail%p.ring.Size), p.heads[last]))
		p.heads = p.heads[:last]
		p.avail++
	}
	must(p.d.Mem.StoreUint16(p.ring.Avail()+2, p.avail))
	event, err := p.d.Mem.LoadUint16(p.ring.Used() + 4 + 8*guestmem.Addr(p.ring.Size))
	must(err)
	if event-old < p.avail-old {
		p.d.Kick(p.queue)
	}
	return n
}

// Fill gives the device all chains that it does not have.
func (p *Pump) Fill() { p.Add(len(p.heads)) }

// Take takes back what the device has used and returns how many chains that is.
func (p *Pump) Take() (n int) {
	idx, err := p.d.Mem.LoadUint16(p.ring.Used() + 2)
	must(err)
	for ; p.used != idx; p.used++ {
		head, err := p.d.Mem.LoadUint32(p.ring.Used() + 4 + 8*guestmem.Addr(p.used%p.ring.Size))
		must(err)
		p.heads = append(p.heads, uint16(head))
		n++
	}
	p.ring.PutUsedEvent(p.used - 1) // no interrupt for a while
	return n
}
