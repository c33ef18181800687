package net

import (
	"context"
	"sync"

	"warder/devices/meter"
	"warder/devices/virtio"
	"warder/devices/virtio/virtq"
)

// A transmitter is the sending half of a queue pair.
type transmitter struct {
	dev     *Device
	index   int
	queue   *virtq.Queue
	allowed Offloads
	stats   sendCounters

	mu      sync.Mutex
	sending bool          // the loop is at it, and gives back what is done itself
	done    []*Frame      // released, not given back to the guest
	spare   []*Frame      // without a chain
	some    chan struct{} // there is something in done that the loop will not see; capacity 1

	giving sync.Mutex // held while frames are given back
	batch  []*Frame
}

func newTransmitter(d *Device, index int) *transmitter {
	return &transmitter{dev: d, index: index, some: make(chan struct{}, 1)}
}

// start takes the queue of a new driver. No frame of the last one is left.
func (t *transmitter) start(q *virtq.Queue, allowed Offloads) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.queue, t.allowed = q, allowed
	t.spare, t.done = nil, nil
}

// publishAfter is how many frames are given back to the guest together while it has
// more to send.
const publishAfter = 32

// run sends the guest's frames.
func (t *transmitter) run(ctx context.Context, q *virtq.Queue) error {
	worker := meter.Of(ctx)
	for sent := 0; ; {
		c, err := q.Pop()
		if err != nil {
			return err
		}
		if c == nil || sent == publishAfter {
			// Nothing is kept back while the guest may wait for it.
			if c == nil {
				t.rest()
			}
			if err := t.giveBack(); err != nil {
				return err
			}
			worker.Lap()
			sent = 0
		}
		if c == nil {
			q.Linger()
			if err := q.Wait(ctx); err != nil {
				return err
			}
			continue
		}
		if err := ctx.Err(); err != nil {
			return context.Cause(ctx)
		}
		sent++
		t.send(c)
	}
}

// send sends the frame in c, or drops it.
func (t *transmitter) send(c *virtq.Chain) {
	f := t.frame()
	f.chain = c
	err := t.read(f, c.Reader)
	switch {
	case err != nil:
		t.stats.malformed.Add(1)
	case !t.dev.link.Load():
		t.stats.down.Add(1)
	default:
		t.stats.frames.Add(1)
		t.stats.bytes.Add(uint64(f.Len))
		t.dev.cfg.Port.Send(f)
		return
	}
	t.release(f)
}

// read fills f with what the guest wrote.
func (t *transmitter) read(f *Frame, r *virtq.Reader) error {
	var h [HeaderSize]byte
	if n, err := r.Read(h[:]); n < HeaderSize || err != nil {
		return errLength
	}
	f.Queue, f.Len = t.index, r.Len()
	f.Head = f.head[:min(f.Len, HeadSize)]
	if n, err := r.Read(f.Head); n < len(f.Head) || err != nil {
		return errLength
	}
	f.Body = r.Pieces()
	return f.SetHeader(&h, t.allowed, t.dev.cfg.MTU)
}

// frame is one without a chain. There are never more than the queue has chains.
func (t *transmitter) frame() *Frame {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.sending = true
	last := len(t.spare) - 1
	if last < 0 {
		return &Frame{sender: t}
	}
	f := t.spare[last]
	t.spare = t.spare[:last]
	return f
}

// release takes back a frame that has been dealt with. Only goroutines of the sender's
// own device give it to the guest: whoever had it must not wait for a guest that is
// paused.
func (t *transmitter) release(f *Frame) {
	f.Body = nil
	t.mu.Lock()
	t.done = append(t.done, f)
	wake := !t.sending
	t.mu.Unlock()
	if wake {
		signal(t.some)
	}
}

// giveBack shows the guest what was released.
func (t *transmitter) giveBack() error {
	t.giving.Lock()
	defer t.giving.Unlock()
	t.mu.Lock()
	t.batch, t.done = t.done, t.batch[:0]
	t.mu.Unlock()
	for _, f := range t.batch {
		if err := t.queue.Put(f.chain, 0); err != nil {
			return err
		}
		f.chain = nil
	}
	t.mu.Lock()
	t.spare = append(t.spare, t.batch...)
	t.mu.Unlock()
	return t.queue.Publish()
}

// rest leaves what is released from now on to complete.
func (t *transmitter) rest() {
	t.mu.Lock()
	t.sending = false
	t.mu.Unlock()
}

// complete gives back frames that are released while the loop is not at it.
func (t *transmitter) complete(ctx context.Context, _ *virtq.Queue) error {
	for {
		if _, err := virtio.Await(ctx, t.some); err != nil {
			return err
		}
		if err := t.giveBack(); err != nil {
			return err
		}
	}
}

// signal makes the channel of capacity 1 ready.
func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
