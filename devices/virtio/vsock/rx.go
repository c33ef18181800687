package vsock

import (
	"context"

	"warder/devices/meter"
	"warder/devices/virtio"
	"warder/devices/virtio/virtq"
)

// publishAfter is how many packets the guest is shown together while there are more.
const publishAfter = 32

// An obstacle is what a queue's worker has to wait for before it can go on.
type obstacle uint8

const (
	none     obstacle = iota
	noPacket          // for the guest
	noBuffer          // of the guest's
)

// outlet is what the worker of the guest's receive queue has at hand.
type outlet struct {
	d       *Device
	room    *virtq.Chain // a buffer of the guest that waits for a packet
	watched Packet
}

// serveRx fills the guest's buffers with packets as there are some. It shows them to the
// guest before it waits for anything.
func (d *Device) serveRx(ctx context.Context, q *virtq.Queue) error {
	o, worker := outlet{d: d}, meter.Of(ctx)
	for {
		why, err := o.serve(q)
		if err != nil {
			return err
		}
		worker.Lap()
		switch why {
		case noPacket:
			_, err = virtio.Await(ctx, d.output)
		case noBuffer:
			err = q.Wait(ctx)
		}
		if err != nil {
			return err
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
	}
}

// serve shows the guest some packets, and says what keeps it from more.
func (o *outlet) serve(q *virtq.Queue) (obstacle, error) {
	b, ok := q.Try()
	if !ok {
		return none, q.WaitOpen()
	}
	why, err := o.fill(b)
	if end := b.End(); err == nil {
		err = end
	}
	return why, err
}

// fill fills a batch of buffers.
func (o *outlet) fill(b virtq.Batch) (obstacle, error) {
	more := o.d.hasOutput()
	for range publishAfter {
		if !more {
			return noPacket, nil
		}
		var err error
		if o.room == nil {
			if o.room, err = b.Pop(); o.room == nil {
				return noBuffer, err
			}
		}
		if more, err = o.send(b); err != nil {
			return none, err
		}
	}
	return none, nil
}

// send fills the buffer with the next packet, if there is one, and reports whether there
// are likely to be more.
func (o *outlet) send(b virtq.Batch) (more bool, err error) {
	size := o.room.Writer.Len() - HeaderSize
	if size <= 0 {
		o.d.dropped.Add(1) // of no use, which is no connection's fault
		return true, o.giveBack(b)
	}
	p, more, ok := o.d.next(size)
	if !ok {
		return more, nil
	}
	defer p.payload.give()
	if !o.d.passes(&o.watched, p.header, p.payload.bytes(), ports{guest: p.DstPort, host: p.SrcPort}) {
		return more, nil
	}
	if err := write(b, o.room, p); err != nil {
		return more, err
	}
	return more, o.giveBack(b)
}

// giveBack gives the guest its buffer back, with what is in it.
func (o *outlet) giveBack(b virtq.Batch) error {
	c := o.room
	o.room = nil
	return b.Put(c, uint32(c.Writer.Written()))
}

// write writes a packet to the room of c, which it fits.
func write(b virtq.Batch, c *virtq.Chain, p outgoing) error {
	var head [HeaderSize]byte
	p.header.encode(&head)
	if _, err := b.Write(c, head[:]); err != nil {
		return err
	}
	_, err := b.Write(c, p.payload.bytes())
	return err
}
