package virtqtest

import (
	"math/rand/v2"
	"sync"
	"testing"

	"warder/devices/guestmem"
	"warder/devices/meter"
)

// resetUnderLoad resets and starts the device while it works, and while another
// vCPU does all that is harmless.
func (s Subject) resetUnderLoad(t *testing.T) {
	d := s.driver(t)
	var vcpu sync.WaitGroup
	stop := make(chan struct{})
	vcpu.Go(func() {
		random := rand.New(rand.NewPCG(3, 4))
		p := make([]byte, 4)
		for {
			select {
			case <-stop:
				return
			default:
			}
			d.Kick(random.IntN(len(d.dev.Info().QueueMax) + 1))
			d.Read(uint64(random.IntN(0x80))*4, p)
			d.Put(RegInterruptACK, random.Uint32())
		}
	})
	for range 40 {
		s.load(t, d)
		d.stop()
	}
	close(stop)
	vcpu.Wait()
	s.recovers(t, d)
}

// load starts the device and gives it work in all queues.
func (s Subject) load(t *testing.T, d *Driver) {
	t.Helper()
	d.Start(d.Offered())
	for i, r := range d.Rings {
		for range r.Size / 4 {
			r.Add(Buffer{Data: make([]byte, 48)}, Buffer{Room: 64})
			r.Add(Buffer{Room: 64})
		}
		d.Kick(i)
	}
	s.wake(t, d)
}

// heldUnderLoad has the device's workers stand still, from their start on or while they
// work, and resets it or closes its transport.
func (s Subject) heldUnderLoad(t *testing.T) {
	d, m := s.driver(t), new(meter.Meter)
	d.Measure(m)
	for round := range 20 {
		gate := make(chan struct{})
		if round%2 == 0 {
			m.Hold(gate)
		}
		s.load(t, d)
		m.Hold(gate)
		d.stop()
		close(gate)
	}
	s.recovers(t, d)
	if m.Spent() == 0 {
		t.Error("the device's work took no time")
	}
	m.Hold(make(chan struct{}))
	s.load(t, d)
	d.within("is closed", func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
}

// anything has two vCPUs write any value to any register and anywhere in memory.
func (s Subject) anything(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %#x", seed)
	d := s.driver(t)
	d.Start(d.Offered())
	var vcpus sync.WaitGroup
	for id := range uint64(2) {
		vcpus.Go(func() {
			random := rand.New(rand.NewPCG(seed, id))
			for range 3000 {
				d.scribble(random)
			}
		})
	}
	vcpus.Wait()
	s.recovers(t, d)
}

// scribble does one thing that a driver can do.
func (d *Driver) scribble(random *rand.Rand) {
	queues := len(d.dev.Info().QueueMax)
	switch random.IntN(8) {
	case 0:
		d.Put(uint64(random.IntN(0x60))*4, random.Uint32())
	case 1:
		d.Put(RegQueueSel, uint32(random.IntN(queues+1)))
	case 2:
		reg := []uint64{RegQueueDesc, RegQueueAvail, RegQueueUsed}[random.IntN(3)]
		d.Put64(reg, uint64(anywhere(random.Uint64())&^15))
	case 3:
		d.Put(RegQueueSize, 1<<random.IntN(10))
		d.Put(RegQueueReady, 1)
	case 4:
		d.Put(RegStatus, []uint32{0, 1, 3, 11, 15, 64, 255}[random.IntN(7)])
	case 5:
		d.Put(RegDriverSel, uint32(random.IntN(2)))
		d.Put(RegDriverFeatures, random.Uint32()&1<<uint(random.IntN(32))|uint32(random.IntN(2)))
	case 6:
		d.Kick(random.IntN(queues + 1))
	case 7:
		var p [descSize]byte
		for i := range p {
			p[i] = byte(1<<random.IntN(9)) - 1 // few bits, so that it makes sense now and then
		}
		must(d.Mem.WriteAt(p[:], Base+guestmem.Addr(random.IntN(MemorySize-descSize))))
	}
}

// anywhere is an address in or around memory.
func anywhere(v uint64) guestmem.Addr {
	return Base + guestmem.Addr(v%(MemorySize+0x2000)) - 0x1000
}
