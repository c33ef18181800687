package mmio_test

import (
	"slices"
	"testing"

	"warder/devices/virtio"
	"warder/devices/virtio/virtqtest"
)

// TestSuspended asks a suspended device, which answers when it is resumed.
func TestSuspended(t *testing.T) {
	d := virtqtest.NewDriver(t, &echo{})
	for _, features := range []uint64{0, virtio.FEventIdx} {
		d.Start(features)
		for range 100 {
			d.Suspend()
			interrupts := d.Stats().Interrupts
			d.Rings[0].Add(virtqtest.Buffer{Data: []byte("held")}, virtqtest.Buffer{Room: 8})
			d.Kick(0)
			states := d.Queues()
			if _, ok := d.Rings[0].Take(); ok || d.Stats().Interrupts != interrupts {
				t.Fatal("a suspended device answered")
			}
			if again := d.Queues(); states[0].Used != again[0].Used || states[0].Next != again[0].Next || !slices.Equal(states[0].InFlight, again[0].InFlight) {
				t.Fatalf("a suspended queue went from %+v to %+v", states[0], again[0])
			}
			d.Resume()
			if a := d.Answer(0); string(a.Room[:a.Written]) != "held" {
				t.Fatalf("the answer is %q", a.Room[:a.Written])
			}
		}
	}
}

// TestCloseSuspended ends a device that waits with its answer.
func TestCloseSuspended(t *testing.T) {
	dev := &echo{}
	d := virtqtest.NewDriver(t, dev)
	d.Start(0)
	d.Suspend()
	d.Rings[0].Add(virtqtest.Buffer{Data: []byte("lost")}, virtqtest.Buffer{Room: 8})
	d.Kick(0)
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	if _, ok := d.Rings[0].Take(); ok || dev.running.Load() != 0 || d.Stats().Failures != 0 {
		t.Error("closing a suspended device let it go on, or fail")
	}
	d.Resume()
}
