package virtqtest

import (
	"math"
	"math/rand/v2"
	"testing"

	"warder/devices/virtio"
)

// misplaced puts a queue where none can be.
func (s Subject) misplaced(t *testing.T, i int) {
	d := s.driver(t)
	for name, put := range map[string]func(){
		"size 0":            func() { d.Put(RegQueueSize, 0) },
		"size 3":            func() { d.Put(RegQueueSize, 3) },
		"too large":         func() { d.Put(RegQueueSize, 2*d.Get(RegQueueSizeMax)) },
		"size of 17 bits":   func() { d.Put(RegQueueSize, 1<<16|1) },
		"desc unaligned":    func() { d.Put64(RegQueueDesc, uint64(Base)+8) },
		"avail unaligned":   func() { d.Put64(RegQueueAvail, uint64(Base)+1) },
		"used unaligned":    func() { d.Put64(RegQueueUsed, uint64(Base)+2) },
		"desc nowhere":      func() { d.Put64(RegQueueDesc, 0) },
		"avail at the end":  func() { d.Put64(RegQueueAvail, uint64(Base)+MemorySize-2) },
		"used wraps":        func() { d.Put64(RegQueueUsed, math.MaxUint64-3) },
		"desc above 4 GiB":  func() { d.Put64(RegQueueDesc, uint64(Base)|1<<32) },
		"avail below 4 GiB": func() { d.Put64(RegQueueAvail, 0xffff_fff0) },
	} {
		d.Negotiate(d.Offered())
		d.place(i, NewRing(d.Mem, 1, 0, MemorySize))
		put()
		d.Put(RegQueueReady, 1)
		if d.Get(RegQueueReady) != 0 || d.Get(RegStatus)&StatusNeedsReset == 0 {
			t.Errorf("%s: the queue was taken into service", name)
		}
		d.Put(RegStatus, StatusDriverOK)
		d.Kick(i)
	}
	s.recovers(t, d)
}

// takenAway takes a queue that is used out of service.
func (s Subject) takenAway(t *testing.T, i int) {
	d := s.driver(t)
	d.Start(d.Offered())
	d.Put(RegQueueSel, uint32(i))
	d.Put(RegQueueReady, 0)
	d.NeedsReset()
	d.Put(RegQueueReady, 1)
	d.Kick(i)
	s.recovers(t, d)
}

// alone starts the device with one queue only, or with none.
func (s Subject) alone(t *testing.T, i int) {
	d := s.driver(t)
	for _, ready := range []bool{true, false} {
		d.Negotiate(d.Offered())
		r := NewRing(d.Mem, min(64, uint16(s.queueMax(d, i))), 0, MemorySize)
		if ready {
			d.SetQueue(i, r)
		}
		d.Put(RegStatus, StatusDriverOK)
		r.Add(Buffer{Data: make([]byte, 64)}, Buffer{Room: 64})
		for q := range d.dev.Info().QueueMax {
			d.Kick(q)
		}
		s.wake(t, d)
		d.stop()
	}
	s.recovers(t, d)
}

func (s Subject) queueMax(d *Driver, i int) uint32 {
	d.Put(RegQueueSel, uint32(i))
	return d.Get(RegQueueSizeMax)
}

// features takes what is not offered, and starts without an agreement.
func (s Subject) features(t *testing.T) {
	d := s.driver(t)
	offered := d.Offered()
	for bit := range 64 {
		if one := uint64(1) << bit; offered&one == 0 && d.Negotiate(virtio.FVersion1|one) {
			t.Errorf("feature bit %d, which is not offered, was agreed on", bit)
		}
	}
	if d.Negotiate(offered &^ virtio.FVersion1) {
		t.Error("a legacy driver was agreed on")
	}
	d.Put(RegStatus, StatusDriverOK)
	if d.Get(RegStatus)&StatusDriverOK != 0 {
		t.Error("the device starts without an agreement")
	}
	s.recovers(t, d)
}

// configuration reads and writes what is there of it and what is not.
func (s Subject) configuration(t *testing.T) {
	d := s.driver(t)
	dev := d.dev
	whole := make([]byte, 0x1000)
	dev.ReadConfig(whole, 0)
	for _, off := range append(counted(0, 0x200), 0xffe, 0xfff, 0x1000, 1<<32, math.MaxUint64-3, math.MaxUint64) {
		for n := range 9 {
			want := make([]byte, n)
			if off < uint64(len(whole)) {
				copy(want, whole[off:])
			}
			got := make([]byte, n)
			for i := range got {
				got[i] = 0xa5
			}
			if dev.ReadConfig(got, off); string(got) != string(want) {
				t.Fatalf("%d bytes at %#x read % x, want % x", n, off, got, want)
			}
		}
	}
	d.Start(d.Offered())
	random := rand.New(rand.NewPCG(1, 2))
	for _, off := range counted(0, 0x120) {
		p := make([]byte, random.IntN(9))
		for i := range p {
			p[i] = byte(random.Uint32())
		}
		d.Write(RegConfig+off, p)
		d.Read(RegConfig+off, p)
	}
	s.recovers(t, d)
}

func counted(from, to uint64) (list []uint64) {
	for i := from; i < to; i++ {
		list = append(list, i)
	}
	return list
}
