package net

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"warder/devices/virtio"
	"warder/devices/virtio/virtq"
)

// A receiver is the receiving half of a queue pair. Frames come from the goroutines
// of whoever sends them. While the queue is full it belongs to the one that watches
// for room.
type receiver struct {
	dev   *Device
	index int
	stats receiveCounters

	mu        sync.Mutex
	queue     *virtq.Queue // nil while there is no driver
	mergeable bool         // a frame may take several buffers
	fail      context.CancelCauseFunc
	held      []*virtq.Chain // buffers taken from the queue and not filled
	full      bool
	empty     bool          // and for want of buffers
	wanted    chan struct{} // somebody waits for room; capacity 1
	scratch   [HeadSize]byte
}

func newReceiver(d *Device, index int) *receiver {
	return &receiver{dev: d, index: index, wanted: make(chan struct{}, 1)}
}

func (r *receiver) start(q *virtq.Queue, mergeable bool, fail context.CancelCauseFunc) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.queue, r.mergeable, r.fail = q, mergeable, fail
	r.full, r.empty = false, false
	select { // what was wanted of the last driver
	case <-r.wanted:
	default:
	}
}

// stop lets go of the queue. Buffers that are held go with it.
func (r *receiver) stop() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.queue = nil
	clear(r.held)
	r.held = r.held[:0]
}

func (r *receiver) running() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.queue != nil
}

// watch waits for room whenever the queue is full.
func (r *receiver) watch(ctx context.Context, q *virtq.Queue) error {
	for {
		if _, err := virtio.Await(ctx, r.wanted); err != nil {
			return err
		}
		if err := q.WaitOpen(); err != nil {
			return err
		}
		r.mu.Lock()
		empty := r.empty
		r.mu.Unlock()
		if empty {
			if err := q.Wait(ctx); err != nil {
				return err
			}
		}
		r.mu.Lock()
		r.full, r.empty = false, false
		r.mu.Unlock()
		r.dev.cfg.Port.Ready(r.index)
	}
}

// Queue implements Receiver.
func (d *Device) Queue(f *Frame) int {
	n := uint32(d.pairs.Load())
	if n == 1 {
		return 0
	}
	return int(flow(f.Head) % n)
}

// Deliver implements Receiver.
func (d *Device) Deliver(queue int, f *Frame, part int) (next int, err error) {
	r := d.rx[queue]
	switch {
	case !d.link.Load() || queue >= int(d.pairs.Load()):
		r.stats.down.Add(1)
		return 0, ErrDown
	case !d.filter.Load().passes(f.Head):
		r.stats.filtered.Add(1)
		return 0, nil
	}
	next, err = r.deliver(f, part)
	if err == ErrDown {
		r.stats.down.Add(1)
	}
	return next, err
}

// errNoBuffer says that the driver's buffers are too short for a frame.
var errNoBuffer = errors.New("net: no buffer for the frame")

// deliver gives the guest f, from part on, and says how far it came.
func (r *receiver) deliver(f *Frame, part int) (next int, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case r.queue == nil:
		return 0, ErrDown
	case r.full:
		return part, ErrFull
	}
	b, ok := r.queue.Try()
	if !ok { // its machine is paused, which is not to hold up the sender's
		return part, r.refuse(false)
	}
	takes := Offloads(r.dev.takes.Load())
	switch need := f.needs() &^ takes; {
	case need == 0:
		err = r.write(b, f.Offload, f.from(0, f.Len))
	case need == Csum:
		body := f.from(len(f.Head), f.Len-len(f.Head))
		err = r.write(b, Offload{}, body.after(r.summed(f)))
	default:
		part, err = r.cut(b, f, part, takes)
	}
	if err == nil {
		r.stats.frames.Add(1)
		r.stats.bytes.Add(uint64(f.Len))
	}
	return part, r.finish(b, err)
}

// finish shows the guest what has been written, and turns what went wrong into what
// the port has to know.
func (r *receiver) finish(b virtq.Batch, err error) error {
	if end := b.End(); err == nil {
		err = end
	}
	switch {
	case err == nil:
		return nil
	case err == ErrFull:
		return r.refuse(true)
	case err == errNoBuffer:
		r.stats.noBuffer.Add(1)
		return nil // there is no use in trying again
	}
	r.fail(err)
	return ErrDown
}

// refuse takes no more frames until the one that watches says so.
func (r *receiver) refuse(empty bool) error {
	r.full, r.empty = true, empty
	signal(r.wanted)
	return ErrFull
}

// write writes one frame into as many buffers as it takes: all of it, or nothing.
func (r *receiver) write(b virtq.Batch, o Offload, frame cursor) error {
	count, err := r.room(b, HeaderSize+frame.left)
	if err != nil {
		return err
	}
	header := o.Header(count)
	for i, c := range r.held[:count] {
		w := c.Writer
		if i == 0 {
			if _, err := b.Write(c, header[:]); err != nil {
				return fmt.Errorf("%w: receive buffer without room for a header", virtq.ErrMalformed)
			}
		}
		for w.Len() > 0 && !frame.end() {
			if _, err := b.Write(c, frame.next(w.Len())); err != nil {
				return err
			}
		}
		if err := b.Put(c, uint32(w.Written())); err != nil {
			return err
		}
	}
	rest := copy(r.held, r.held[count:])
	clear(r.held[rest:])
	r.held = r.held[:rest]
	return nil
}

// room has buffers for n bytes in front of held, and says how many those are. It
// fails with ErrFull as long as there may be some later, with errNoBuffer otherwise.
func (r *receiver) room(b virtq.Batch, n int) (count int, err error) {
	for room := 0; room < n; count++ {
		if count > 0 && !r.mergeable || count == int(r.queue.Size()) {
			return 0, errNoBuffer
		}
		if count == len(r.held) {
			c, err := b.Pop()
			if err != nil {
				return 0, err
			}
			if c == nil {
				return 0, ErrFull
			}
			r.held = append(r.held, c)
		}
		room += r.held[count].Writer.Len()
	}
	return count, nil
}
