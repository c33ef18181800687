package mmio_test

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"sync/atomic"
	"testing"

	"warder/devices/virtio"
	"warder/devices/virtio/virtq"
	"warder/devices/virtio/virtqtest"
)

// echo answers each chain with what it holds. Its first byte may be an order.
type echo struct {
	running atomic.Int32
	runs    atomic.Int32
	config  [8]byte
	changed func()
}

const (
	orderPanic = 0xf0
	orderFail  = 0xf1
)

func (e *echo) Info() virtio.Info {
	return virtio.Info{ID: 42, Name: "echo", Features: 1 << 5, QueueMax: []uint16{64, 16}}
}

func (e *echo) ReadConfig(p []byte, off uint64) {
	clear(p)
	if off < uint64(len(e.config)) {
		copy(p, e.config[off:])
	}
}

func (e *echo) OnConfigChange(f func()) { e.changed = f }

func (e *echo) Run(ctx context.Context, _ uint64, queues []*virtq.Queue) error {
	e.running.Add(1)
	e.runs.Add(1)
	defer e.running.Add(-1)
	if queues[0] == nil {
		<-ctx.Done()
		return ctx.Err()
	}
	for {
		c, err := queues[0].Next(ctx)
		if err != nil {
			return err
		}
		p, err := io.ReadAll(io.LimitReader(c.Reader, 4096))
		if err != nil {
			return err
		}
		if len(p) > 0 && p[0] == orderPanic {
			panic("as ordered")
		}
		if len(p) > 0 && p[0] == orderFail {
			return errors.New("as ordered")
		}
		n, err := c.Writer.Write(p[:min(len(p), c.Writer.Len())])
		if err != nil {
			return err
		}
		if err := queues[0].Push(c, uint32(n)); err != nil {
			return err
		}
	}
}

func ask(d *virtqtest.Driver, p ...byte) string {
	d.Rings[0].Add(virtqtest.Buffer{Data: p}, virtqtest.Buffer{Room: 8})
	a := d.Answer(0)
	return string(a.Room[:a.Written])
}

func TestIdentity(t *testing.T) {
	d := virtqtest.NewDriver(t, &echo{})
	for reg, want := range map[uint64]uint32{0: 0x74726976, 4: 2, 8: 42, 0x100 - 8: 0, 0x0b0: ^uint32(0), 0x0bc: ^uint32(0)} {
		if got := d.Get(reg); got != want {
			t.Errorf("register %#x is %#x, want %#x", reg, got, want)
		}
	}
	d.Put(virtqtest.RegQueueSel, 1)
	if got := d.Get(virtqtest.RegQueueSizeMax); got != 16 {
		t.Errorf("queue 1 has at most %d", got)
	}
	d.Put(virtqtest.RegQueueSel, 2)
	if got := d.Get(virtqtest.RegQueueSizeMax); got != 0 {
		t.Errorf("queue 2, which is not there, has at most %d", got)
	}
	// Accesses of other widths and places read zeros.
	for _, n := range []int{1, 2, 3, 8} {
		p := make([]byte, n)
		p[0] = 0xff
		d.Read(0, p)
		if p[0] != 0 {
			t.Errorf("an access of %d bytes read %x", n, p)
		}
	}
}

func TestNegotiation(t *testing.T) {
	d := virtqtest.NewDriver(t, &echo{})
	if got, want := d.Offered(), uint64(1<<5|virtio.FVersion1|virtio.FEventIdx|virtio.FIndirectDesc); got != want {
		t.Errorf("offered %#x, want %#x", got, want)
	}
	for features, want := range map[uint64]bool{
		virtio.FVersion1:         true,
		virtio.FVersion1 | 1<<5:  true,
		1 << 5:                   false, // a legacy driver
		virtio.FVersion1 | 1:     false, // never offered
		virtio.FVersion1 | 1<<63: false,
		virtio.FVersion1 | 1<<33: false,
	} {
		if got := d.Negotiate(features); got != want {
			t.Errorf("features %#x: agreed %v", features, got)
		}
		// DRIVER_OK without FEATURES_OK does not start the device.
		d.Put(virtqtest.RegStatus, d.Get(virtqtest.RegStatus)|virtqtest.StatusDriverOK)
		if got := d.Get(virtqtest.RegStatus)&virtqtest.StatusDriverOK != 0; got != want {
			t.Errorf("features %#x: started %v", features, got)
		}
	}
	d.Negotiate(virtio.FVersion1)
	before := d.Get(virtqtest.RegStatus)
	d.Put(virtqtest.RegStatus, virtqtest.StatusAcknowledge)
	if got := d.Get(virtqtest.RegStatus); got != before {
		t.Errorf("status bits were taken back: %#x, was %#x", got, before)
	}
}

func TestServesAndResets(t *testing.T) {
	dev := &echo{}
	d := virtqtest.NewDriver(t, dev)
	for round := range 50 {
		d.Start(virtio.FEventIdx * uint64(round%2))
		if got := ask(d, 'h', 'i'); got != "hi" {
			t.Fatalf("round %d: %q", round, got)
		}
		// Reset with work in the queue.
		d.Rings[0].Add(virtqtest.Buffer{Data: []byte("x")})
		d.Kick(0)
		d.Put(virtqtest.RegStatus, 0)
		if n := dev.running.Load(); n != 0 {
			t.Fatalf("%d workers run after a reset", n)
		}
	}
	if s := d.Stats(); s.Chains < 50 || s.NotifyExits < 100 || s.Resets < 50 || s.Interrupts < 50 || s.Sent < 100 || s.Received < 100 || s.Received > s.Sent {
		t.Errorf("statistics: %+v", s)
	}
}

func TestFailuresNeedAReset(t *testing.T) {
	for name, fail := range map[string]func(d *virtqtest.Driver){
		"error":     func(d *virtqtest.Driver) { d.Rings[0].Add(virtqtest.Buffer{Data: []byte{orderFail}}) },
		"panic":     func(d *virtqtest.Driver) { d.Rings[0].Add(virtqtest.Buffer{Data: []byte{orderPanic}}) },
		"malformed": func(d *virtqtest.Driver) { d.Rings[0].PutAvail(1000) },
	} {
		t.Run(name, func(t *testing.T) {
			d := virtqtest.NewDriver(t, &echo{})
			for range 2 {
				d.Start(0)
				fail(d)
				d.Kick(0)
				d.NeedsReset()
				// What the driver does to a dead device has no effect.
				d.Put(virtqtest.RegStatus, 0xff)
				d.Kick(0)
				d.Kick(100)
			}
			d.Start(0)
			if got := ask(d, 'o', 'k'); got != "ok" {
				t.Errorf("after a reset: %q", got)
			}
			if s := d.Stats(); s.Failures != 2 {
				t.Errorf("%d failures counted, want 2", s.Failures)
			}
		})
	}
}

func TestBadQueuePlace(t *testing.T) {
	d := virtqtest.NewDriver(t, &echo{})
	for name, set := range map[string]func(){
		"too large": func() { d.Put(virtqtest.RegQueueSize, 128) },
		"not there": func() { d.Put64(virtqtest.RegQueueUsed, 1<<40) },
		"size 0":    func() { d.Put(virtqtest.RegQueueSize, 0) },
		"size 2^16": func() { d.Put(virtqtest.RegQueueSize, 1<<16|8) },
	} {
		d.Negotiate(virtio.FVersion1)
		r := virtqtest.NewRing(d.Mem, 16, 0, 0x8000)
		d.Put(virtqtest.RegQueueSel, 0)
		d.Put(virtqtest.RegQueueSize, 16)
		d.Put64(virtqtest.RegQueueDesc, uint64(r.Desc()))
		d.Put64(virtqtest.RegQueueAvail, uint64(r.Avail()))
		d.Put64(virtqtest.RegQueueUsed, uint64(r.Used()))
		set()
		d.Put(virtqtest.RegQueueReady, 1)
		if d.Get(virtqtest.RegQueueReady) != 0 || d.Get(virtqtest.RegStatus)&virtqtest.StatusNeedsReset == 0 {
			t.Errorf("%s: the queue was taken into service", name)
		}
	}
}

func TestReadyQueueKeepsItsPlace(t *testing.T) {
	d := virtqtest.NewDriver(t, &echo{})
	d.Start(0)
	d.Put(virtqtest.RegQueueSel, 0)
	d.Put64(virtqtest.RegQueueDesc, 1<<40)
	d.Put(virtqtest.RegQueueSize, 2)
	d.Put(virtqtest.RegQueueReady, 1)
	if got := ask(d, 'a'); got != "a" {
		t.Errorf("%q", got)
	}
}

func TestConfigChange(t *testing.T) {
	dev := &echo{}
	d := virtqtest.NewDriver(t, dev)
	dev.changed()
	if got := d.Stats().Interrupts; got != 0 {
		t.Errorf("%d interrupts before there is a driver", got)
	}
	d.Start(0)
	before := d.Get(virtqtest.RegGeneration)
	binary.LittleEndian.PutUint32(dev.config[4:], 7)
	dev.changed()
	if d.Get(virtqtest.RegGeneration) == before || d.Get(virtqtest.RegInterruptStatus) != 2 {
		t.Error("the change was not announced")
	}
	d.Put(virtqtest.RegInterruptACK, 2)
	if got := d.Get(virtqtest.RegInterruptStatus); got != 0 {
		t.Errorf("interrupt status %d after it was acknowledged", got)
	}
	if got := d.Get(virtqtest.RegConfig + 4); got != 7 {
		t.Errorf("the configuration reads %d", got)
	}
	if got := d.Get(virtqtest.RegConfig + 8); got != 0 {
		t.Errorf("past its end the configuration reads %#x", got)
	}
}

func FuzzTransport(f *testing.F) {
	f.Add([]byte{0, 0, 1, 2, 'h', 'i', 1, 8, 11, 0, 28, 0, 0, 0, 0, 0, 0, 0, 0})
	f.Add([]byte{8, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 9, 0, 0, 13, 1, 0, 0, 1, 3, 'x', 'y', 'z'})
	f.Fuzz(func(t *testing.T, program []byte) {
		dev := &echo{}
		d := virtqtest.Play(t, dev, program)
		if got := ask(d, 'o', 'k'); got != "ok" {
			t.Errorf("afterwards it answers %q", got)
		}
		if err := d.Close(); err != nil {
			t.Error(err)
		}
		if n := dev.running.Load(); n != 0 {
			t.Errorf("%d workers run after the end", n)
		}
	})
}
