package vsock

import (
	"context"

	"warder/devices/meter"
	"warder/devices/virtio/virtq"
)

// inlet is what the worker of the guest's transmit queue has at hand.
type inlet struct {
	d       *Device
	chunk   *chunk // for the next payload; nil: none yet
	large   []byte // for one that is longer than any of Linux's
	watched Packet
}

// serveTx takes the guest's packets.
func (d *Device) serveTx(ctx context.Context, q *virtq.Queue) error {
	in, worker := inlet{d: d}, meter.Of(ctx)
	defer in.close()
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
		in.take(c.Reader)
		if err := q.Put(c, 0); err != nil {
			return err
		}
		taken++
	}
}

// take takes one packet from the guest's memory. What is no packet is counted; a length
// that the chain does not have, or that is beyond any credit, resets the connection.
func (in *inlet) take(r *virtq.Reader) {
	var b [HeaderSize]byte
	if n, _ := r.Read(b[:]); n < HeaderSize {
		in.d.dropped.Add(1)
		return
	}
	h := parseHeader(&b)
	if uint64(h.Len) > uint64(min(r.Len(), bufferSize)) {
		in.d.dropped.Add(1)
		h.Op, h.Len = OpInvalid, 0
	}
	var payload []byte
	var c *chunk
	switch {
	case h.Len == 0:
	case h.Len <= chunkSize:
		if in.chunk == nil {
			in.chunk = newChunk()
		}
		c = in.chunk
		payload = c.bytes[:h.Len]
	default:
		if in.large == nil {
			in.large = make([]byte, bufferSize)
		}
		payload = in.large[:h.Len]
	}
	_, _ = r.Read(payload) // all of it: there is as much
	if in.d.receive(&in.watched, h, payload, c) {
		in.chunk = nil
	}
}

func (in *inlet) close() {
	if in.chunk != nil {
		in.chunk.give()
	}
}
