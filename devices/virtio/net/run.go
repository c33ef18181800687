package net

import (
	"context"
	"fmt"

	"warder/devices/virtio"
	"warder/devices/virtio/virtq"
)

// Run implements virtio.Device.
func (d *Device) Run(ctx context.Context, features uint64, queues []*virtq.Queue) error {
	if want := 2*d.cfg.Pairs + 1; len(queues) != want {
		return fmt.Errorf("net: %d queues, want %d", len(queues), want)
	}
	if features&featureControl == 0 {
		features &^= controlled
	}
	// A driver that uses one pair has its control queue behind that one, section
	// 5.1.2.
	pairs := 1
	if features&featureMultiqueue != 0 {
		pairs = d.cfg.Pairs
	}
	ctx, fail := context.WithCancelCause(ctx)
	defer fail(nil)

	d.forget()
	d.setTakes(takes(features))
	var loops []func(context.Context) error
	serve := func(q *virtq.Queue, loop func(context.Context, *virtq.Queue) error) {
		if q != nil {
			loops = append(loops, func(ctx context.Context) error { return loop(ctx, q) })
		}
	}
	for i := range pairs {
		rx, tx := queues[2*i], queues[2*i+1]
		if rx != nil {
			d.rx[i].start(rx, features&featureMergeable != 0, fail)
			defer d.rx[i].stop()
		}
		serve(rx, d.rx[i].watch)
		if tx != nil {
			d.tx[i].start(tx, leaves(features))
		}
		serve(tx, d.tx[i].run)
		serve(tx, d.tx[i].complete)
	}
	if features&featureControl != 0 {
		serve(queues[2*pairs], (&control{d, features, pairs}).serve)
	}
	// Without a driver's queues there is nothing to do but to wait for the reset.
	loops = append(loops, virtio.Rest)

	if err := d.cfg.Port.Start(d); err != nil {
		return err
	}
	defer d.cfg.Port.Stop() // before the queues are
	return virtio.Serve(ctx, loops...)
}
