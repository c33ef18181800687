package vsock

import (
	"context"
	"errors"
	"fmt"

	"warder/devices/virtio"
	"warder/devices/virtio/virtq"
)

// fStream is VIRTIO_VSOCK_F_STREAM, §5.10.3.
const fStream = 1 << 0

// eventReset is VIRTIO_VSOCK_EVENT_TRANSPORT_RESET, §5.10.6.7.
const eventReset = 0

var _ virtio.Device = (*Device)(nil)

// Info describes the device: queues rx, tx and event.
func (d *Device) Info() virtio.Info {
	return virtio.Info{
		ID:       virtio.IDVsock,
		Name:     "vsock",
		Features: fStream,
		QueueMax: []uint16{256, 256, 16},
	}
}

// Run serves the queues until ctx ends; all connections end with it.
func (d *Device) Run(ctx context.Context, _ uint64, queues []*virtq.Queue) error {
	if len(queues) != 3 {
		return fmt.Errorf("vsock: %d queues, want 3", len(queues))
	}
	d.start()
	defer d.stop()
	var loops []func(context.Context) error
	for i, serve := range []func(context.Context, *virtq.Queue) error{d.serveRx, d.serveTx, d.serveEvents} {
		if q := queues[i]; q != nil { // the driver may do without one
			loops = append(loops, func(ctx context.Context) error { return serve(ctx, q) })
		}
	}
	// Without a driver's queues there is nothing to do but to wait for the reset.
	loops = append(loops, virtio.Rest)
	return virtio.Serve(ctx, loops...)
}

// serveEvents announces transport resets.
func (d *Device) serveEvents(ctx context.Context, q *virtq.Queue) error {
	for {
		if _, err := virtio.Await(ctx, d.events); err != nil {
			return err
		}
		c, err := q.Next(ctx)
		if err != nil {
			return err
		}
		n, err := c.Writer.Write([]byte{eventReset, 0, 0, 0})
		if err != nil && !errors.Is(err, virtq.ErrShort) {
			return err
		}
		if err := q.Push(c, uint32(n)); err != nil {
			return err
		}
	}
}
