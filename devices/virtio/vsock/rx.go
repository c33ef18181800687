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

func (o *outlet) fill(b virtq.Batch) (obstacle, error) {
	more := o.d.hasOutput()
	for range publishAfter {
		if !more {
			return noPacket, nil
		}
		if o.room == nil {
			c, err := b.Pop()
			if err != nil {
				return none, err
			}
			if c == nil {
				return noBuffer, nil
			}
			o.room = c
		}
		if size := o.room.Writer.Len() - HeaderSize; size <= 0 {
			o.d.dropped.Add(1) // of no use, which is no connection's fault
		} else {
			var p outgoing
			var ok bool
			if p, more, ok = o.d.next(size); !ok {
				continue
			}
			passes := o.d.passes(&o.watched, p.header, p.payload.bytes(), ports{guest: p.DstPort, host: p.SrcPort})
			var err error
			if passes {
				err = write(b, o.room, p)
			}
			p.payload.give()
			if err != nil {
				return none, err
			}
			if !passes {
				continue
			}
		}
		if err := b.Put(o.room, uint32(o.room.Writer.Written())); err != nil {
			return none, err
		}
		o.room = nil
	}
	return none, nil
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
