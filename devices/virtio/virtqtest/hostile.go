package virtqtest

import (
	"fmt"
	"runtime"
	"slices"
	"testing"
	"time"

	"warder/devices/guestmem"
	"warder/devices/virtio"
)

// A Subject is a device that [Hostile] torments.
type Subject struct {
	// New makes the device for a driver with that memory. What has to be closed is
	// by t's cleanup.
	New func(t testing.TB, mem *guestmem.Memory) virtio.Device
	// Works fails the test if the device, freshly started with no feature, does
	// not do its work.
	Works func(t testing.TB, d *Driver)
	// Wake has the device use the queues that it looks into only when the host has
	// something for the guest. It is called until that has an effect, and must not
	// wait. Nil where there is no such queue.
	Wake func(t testing.TB, dev virtio.Device)
	// Unused are the queues that the device never looks into while it has all its
	// features.
	Unused []int
}

const (
	// grace is how long a device has for what it may or may not answer.
	grace = 20 * time.Millisecond
	// maxCost bounds what the host may allocate for a driver's oddity, in bytes. The
	// oddities stand for gigabytes.
	maxCost = 64 << 20
)

// Hostile is what every device has to bear: a driver that breaks each rule of the
// transport and of its queues, in each queue. The device says that it needs a reset,
// where it can't go on; it works again after the reset; it costs the host little; and
// nothing of it runs when it is not to.
func Hostile(t *testing.T, s Subject) {
	queues := s.New(t, NewMemory(t)).Info().QueueMax
	for i := range queues {
		if !slices.Contains(s.Unused, i) {
			t.Run(fmt.Sprintf("queue %d malformed", i), func(t *testing.T) { s.malformed(t, i) })
		}
		t.Run(fmt.Sprintf("queue %d odd", i), func(t *testing.T) { s.odd(t, i) })
		t.Run(fmt.Sprintf("queue %d misplaced", i), func(t *testing.T) { s.misplaced(t, i) })
		t.Run(fmt.Sprintf("queue %d taken away", i), func(t *testing.T) { s.takenAway(t, i) })
		t.Run(fmt.Sprintf("queue %d alone", i), func(t *testing.T) { s.alone(t, i) })
	}
	t.Run("features", s.features)
	t.Run("configuration", s.configuration)
	t.Run("reset under load", s.resetUnderLoad)
	t.Run("held under load", s.heldUnderLoad)
	t.Run("anything by anyone", s.anything)
}

func (s Subject) driver(t testing.TB) *Driver {
	t.Helper()
	mem := NewMemory(t)
	return NewDriverIn(t, mem, s.New(t, mem))
}

func (s Subject) wake(t testing.TB, d *Driver) {
	if s.Wake != nil {
		s.Wake(t, d.dev)
	}
}

// recovers starts the device anew and has it work.
func (s Subject) recovers(t testing.TB, d *Driver) {
	t.Helper()
	d.stop()
	d.Start(0)
	s.Works(t, d)
}

// stop resets the device, which must not take long.
func (d *Driver) stop() {
	d.t.Helper()
	d.within("is reset", func() { d.Put(RegStatus, 0) })
}

// within runs what stops the device.
func (d *Driver) within(what string, stop func()) {
	d.t.Helper()
	stopped := make(chan struct{})
	go func() { stop(); close(stopped) }()
	select {
	case <-stopped:
	case <-time.After(patience):
		d.t.Fatalf("the device does not stop when it %s", what)
	}
}

// settle waits until the device has answered all of queue i or says that it needs
// a reset, or has had time enough.
func (d *Driver) settle(i int) {
	r := d.Rings[i]
	timeout := time.After(grace)
	for {
		used, err := r.Mem.LoadUint16(r.Used() + 2)
		must(err)
		if used == r.avail || d.Get(RegStatus)&StatusNeedsReset != 0 {
			return
		}
		select {
		case <-d.interrupts:
		case <-timeout:
			return
		}
	}
}

func (s Subject) malformed(t *testing.T, i int) {
	for name, breakRule := range Malformed {
		t.Run(name, func(t *testing.T) {
			d := s.driver(t)
			d.Start(d.Offered())
			breakRule(d.Rings[i])
			d.Kick(i)
			d.await(d.needsReset, func() { s.wake(t, d) })
			s.recovers(t, d)
		})
	}
}

func (s Subject) odd(t *testing.T, i int) {
	for name, do := range odd {
		t.Run(name, func(t *testing.T) {
			d := s.driver(t)
			d.Start(d.Offered())
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			do(d.Rings[i])
			d.Kick(i)
			s.wake(t, d)
			d.settle(i)
			d.stop()
			runtime.ReadMemStats(&after)
			if n := after.TotalAlloc - before.TotalAlloc; n > maxCost {
				t.Errorf("the host allocated %d MiB", n>>20)
			}
			s.recovers(t, d)
		})
	}
}
