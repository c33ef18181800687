package mmio_test

import (
	"context"
	"runtime"
	"testing"

	"warder/devices/meter"
	"warder/devices/virtio"
	"warder/devices/virtio/virtq"
	"warder/devices/virtio/virtqtest"
)

// tired is a device that has its own workers held before each answer.
type tired struct {
	echo
	meter meter.Meter
	gates chan chan struct{}
}

func (d *tired) Run(ctx context.Context, _ uint64, queues []*virtq.Queue) error {
	take := func(ctx context.Context) error {
		q := queues[0]
		for {
			c, err := q.Next(ctx)
			if err != nil {
				return err
			}
			gate := make(chan struct{})
			d.meter.Hold(gate)
			d.gates <- gate
			if err := q.Push(c, 0); err != nil {
				return err
			}
		}
	}
	return virtio.Serve(ctx, take)
}

// TestHeld has a device with several requests stand still after each.
func TestHeld(t *testing.T) {
	const requests = 20
	dev := &tired{gates: make(chan chan struct{}, requests)}
	d := virtqtest.NewDriver(t, dev)
	d.Measure(&dev.meter)
	d.Start(0)
	for range requests {
		d.Rings[0].Add(virtqtest.Buffer{Room: 8})
	}
	for range requests {
		d.Answer(0)
		spent := dev.meter.Spent()
		for range 100 {
			runtime.Gosched()
			if _, ok := d.Rings[0].Take(); ok {
				t.Fatal("it has answered, and should stand still")
			}
		}
		close(<-dev.gates)
		if spent == 0 {
			t.Error("its work took no time")
		}
	}
}
