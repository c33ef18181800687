package net

import (
	"fmt"
	"testing"

	"warder/devices/guestmem"
	"warder/devices/virtio/virtqtest"
)

// BenchmarkWire is the way of a frame from one guest's memory to another's, through
// two devices and the wire between them. The drivers' part of it is a few atomic
// stores. Both have all their buffers with the device, so that it is never the
// drivers that are waited for: what is measured is the devices' pace.
func BenchmarkWire(b *testing.B) {
	for _, size := range []int{64, 1500, 65536} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			x, y := Wire()
			from, to := newDevice(b, Config{Port: x, MAC: MAC{2, 9}, MTU: 1500}), newDevice(b, Config{Port: y})
			sender, receiver := start(b, from, 0), start(b, to, 0)

			p := packet{proto: protoTCP, payload: bulk(max(size-54, 10))}
			h, frame := p.partial()
			if size > 1514 {
				h, frame = gsoHeader(p, TCPv4, 1448)
			}
			const room = 4096
			perFrame := (len(frame)+HeaderSize)/room + 1
			tx := newPump(sender, tx0, []virtqtest.Buffer{{Data: h[:]}, {Data: frame}})
			rx := newPump(receiver, rx0, []virtqtest.Buffer{{Room: room}})
			rx.fill()
			b.SetBytes(int64(len(frame)))
			b.ReportAllocs()
			b.ResetTimer()
			for sent, got := 0, 0; got < b.N*perFrame; {
				if sent < b.N {
					sent += tx.add(b.N - sent)
				}
				got += rx.turn()
				tx.turn()
			}
			b.StopTimer()
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "frames/s")
			if s := to.Stats(); s.Received != uint64(b.N) {
				b.Errorf("%+v after %d frames", s, b.N)
			}
		})
	}
}

// A pump is the driver's side of a queue whose chains are all the same, without
// anything allocated. It asks for no interrupts.
type pump struct {
	driver
	ring        *virtqtest.Ring
	queue       int
	heads       []uint16 // that are not with the device
	used, avail uint16
}

func newPump(d driver, queue int, bufs []virtqtest.Buffer) *pump {
	p := &pump{driver: d, ring: d.Rings[queue], queue: queue}
	table := p.ring
	for head := uint16(0); int(head)+len(bufs) <= int(table.Size); head += uint16(len(bufs)) {
		p.heads = append(p.heads, head)
	}
	// The same buffers for all: their content is of no interest.
	var descs []virtqtest.Desc
	for i, buf := range bufs {
		desc := virtqtest.Desc{Len: uint32(len(buf.Data) + buf.Room)}
		if buf.Data == nil {
			desc.Flags = virtqtest.Write
		}
		desc.Addr = table.Alloc(int(desc.Len))
		if buf.Data != nil {
			if err := d.Mem.WriteAt(buf.Data, desc.Addr); err != nil {
				d.t.Fatal(err)
			}
		}
		if i < len(bufs)-1 {
			desc.Flags |= virtqtest.Next
		}
		descs = append(descs, desc)
	}
	for _, head := range p.heads {
		for i, desc := range descs {
			desc.Next = head + uint16(i) + 1
			table.PutDesc(table.Desc(), head+uint16(i), desc)
		}
	}
	return p
}

// add gives the device up to n chains more and rings if it wants to hear of it.
func (p *pump) add(n int) int {
	n = min(n, len(p.heads))
	if n == 0 {
		return 0
	}
	old := p.avail
	for range n {
		last := len(p.heads) - 1
		p.store16(p.ring.Avail()+4+2*guestmem.Addr(p.avail%p.ring.Size), p.heads[last])
		p.heads = p.heads[:last]
		p.avail++
	}
	p.store16(p.ring.Avail()+2, p.avail)
	event, err := p.Mem.LoadUint16(p.ring.Used() + 4 + 8*guestmem.Addr(p.ring.Size))
	if err != nil {
		p.t.Fatal(err)
	}
	if event-old < p.avail-old {
		p.Kick(p.queue)
	}
	return n
}

func (p *pump) fill() { p.add(len(p.heads)) }

// turn takes back what the device has used, and gives receive buffers to it again.
func (p *pump) turn() (n int) {
	idx, err := p.Mem.LoadUint16(p.ring.Used() + 2)
	if err != nil {
		p.t.Fatal(err)
	}
	for ; p.used != idx; p.used++ {
		head, err := p.Mem.LoadUint32(p.ring.Used() + 4 + 8*guestmem.Addr(p.used%p.ring.Size))
		if err != nil {
			p.t.Fatal(err)
		}
		p.heads = append(p.heads, uint16(head))
		n++
	}
	p.store16(p.ring.Avail()+4+2*guestmem.Addr(p.ring.Size), p.used-1) // no interrupt for a while
	if p.queue == rx0 {
		p.fill()
	}
	return n
}

func (p *pump) store16(a guestmem.Addr, v uint16) {
	if err := p.Mem.StoreUint16(a, v); err != nil {
		p.t.Fatal(err)
	}
}
