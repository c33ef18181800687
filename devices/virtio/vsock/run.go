package vsock

import (
	"context"
	"errors"
	"fmt"
	"io"

	"warder/devices/meter"
	"warder/devices/virtio"
	"warder/devices/virtio/virtq"
)

// fStream is VIRTIO_VSOCK_F_STREAM, §5.10.3.
const fStream = 1 << 0

// maxPayload is the most that one packet to the guest carries. Linux offers
// buffers of 4 KiB, header included.
const maxPayload = 64 << 10

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

// publishAfter is how many packets the guest is shown together while there are more.
const publishAfter = 32

// serveRx fills the guest's buffers with packets as there are some. It shows them to the
// guest before it waits for anything.
func (d *Device) serveRx(ctx context.Context, q *virtq.Queue) error {
	buf := make([]byte, maxPayload)
	watched, worker := new(Packet), meter.Of(ctx)
	var room *virtq.Chain // a buffer of the guest that waits for a packet
	for filled := 0; ; {
		output := d.hasOutput()
		if output && room == nil {
			var err error
			if room, err = q.Pop(); err != nil {
				return err
			}
		}
		if !output || room == nil || filled == publishAfter {
			if err := q.Publish(); err != nil {
				return err
			}
			worker.Lap()
			filled = 0
		}
		switch {
		case !output:
			if _, err := virtio.Await(ctx, d.output); err != nil {
				return err
			}
			continue
		case room == nil:
			if err := q.Wait(ctx); err != nil {
				return err
			}
			continue
		case ctx.Err() != nil:
			return context.Cause(ctx)
		}
		size := room.Writer.Len() - HeaderSize
		if size <= 0 {
			d.dropped.Add(1) // of no use, which is no connection's fault
		} else {
			h, n, ok := d.next(buf[:min(size, len(buf))])
			if !ok || !d.passes(watched, h, buf[:n], ports{guest: h.DstPort, host: h.SrcPort}) {
				continue
			}
			if err := writePacket(room.Writer, h, buf[:n]); err != nil {
				return err
			}
		}
		if err := q.Put(room, uint32(room.Writer.Written())); err != nil {
			return err
		}
		room = nil
		filled++
	}
}

func writePacket(w io.Writer, h header, payload []byte) error {
	var b [HeaderSize]byte
	h.encode(&b)
	if _, err := w.Write(b[:]); err != nil {
		return err
	}
	_, err := w.Write(payload)
	return err
}

// hasOutput reports whether next is likely to have something.
func (d *Device) hasOutput() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.refusals)+len(d.ready) > 0
}

// serveTx takes the guest's packets.
func (d *Device) serveTx(ctx context.Context, q *virtq.Queue) error {
	buf := make([]byte, bufferSize)
	watched, worker := new(Packet), meter.Of(ctx)
	for taken := 0; ; {
		c, err := q.Pop()
		if err != nil {
			return err
		}
		if c == nil || taken == publishAfter {
			if err := q.Publish(); err != nil {
				return err
			}
			worker.Lap()
			taken = 0
		}
		if c == nil {
			q.Linger()
			if err := q.Wait(ctx); err != nil {
				return err
			}
			continue
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		d.receiveChain(c.Reader, buf, watched)
		if err := q.Put(c, 0); err != nil {
			return err
		}
		taken++
	}
}

// receiveChain takes one packet from the guest's memory. What is no packet is
// counted; a length that the chain does not have, or that is beyond any credit,
// resets the connection.
func (d *Device) receiveChain(r *virtq.Reader, buf []byte, watched *Packet) {
	var b [HeaderSize]byte
	if _, err := io.ReadFull(r, b[:]); err != nil {
		d.dropped.Add(1)
		return
	}
	h := parseHeader(&b)
	if uint64(h.Len) > uint64(min(r.Len(), len(buf))) {
		d.dropped.Add(1)
		h.Op, h.Len = OpInvalid, 0
	}
	payload := buf[:h.Len]
	if _, err := io.ReadFull(r, payload); err != nil {
		d.dropped.Add(1)
		return
	}
	d.receive(watched, h, payload)
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
