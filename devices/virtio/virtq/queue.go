package virtq

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"warder/devices/eventfd"
	"warder/devices/guestmem"
	"warder/devices/meter"
)

// MaxSize is the largest queue (section 2.7: "Queue Size value is always a
// power of 2. The maximum Queue Size value is 32768.").
const MaxSize = 32768

// ErrMalformed says that the driver broke the protocol of the ring.
var ErrMalformed = errors.New("virtq: malformed queue")

func malformed(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrMalformed, fmt.Sprintf(format, args...))
}

// Config is where the driver put a queue and what was negotiated.
type Config struct {
	Size              uint16
	Desc, Avail, Used guestmem.Addr // descriptor table, driver area, device area
	EventIdx          bool          // VIRTIO_F_EVENT_IDX
	Indirect          bool          // VIRTIO_F_INDIRECT_DESC

	// Kick is signalled when the driver rings the doorbell.
	Kick *eventfd.Eventfd
	// Notify interrupts the driver.
	Notify func() error
	// Counters are what the queue counts in, with others if need be; nil for its
	// own.
	Counters *Counters
	// Gate is what suspends the queue, with others if need be; nil for its own.
	Gate *Gate
}

// Counters count what queues do. They only grow.
type Counters struct {
	Wakeups  atomic.Uint64 // doorbells that woke whoever waited
	Popped   atomic.Uint64 // chains taken from the driver
	Pushed   atomic.Uint64 // chains given back
	Sent     atomic.Uint64 // bytes for the device to read in the chains taken
	Received atomic.Uint64 // bytes written to the chains given back
}

// Flags and sizes of the rings, section 2.7.
const (
	descSize = 16

	availNoInterrupt = 1 // VIRTQ_AVAIL_F_NO_INTERRUPT
	usedNoNotify     = 1 // VIRTQ_USED_F_NO_NOTIFY

	ringHeader   = 4 // flags and idx, 16 bits each
	availElement = 2
	usedElement  = 8
)

// A Queue is one virtqueue. Pop, Linger and Wait belong to one goroutine; Push, Put and
// Publish may be called from any, in any order of chains.
type Queue struct {
	mem *guestmem.Memory
	cfg Config

	desc  guestmem.Window // the descriptor table; of the goroutine that pops
	avail guestmem.Window // flags, index and elements of the driver's ring; of the same

	next     uint16    // avail index of the chain to pop
	known    uint16    // chains from there on that the driver is known to have made available
	lingered uint16    // next, when Linger let others run
	rested   time.Time // until when it does not again
	err      error     // what was malformed, for good
	ctx      context.Context
	worker   *meter.Worker // that of ctx, whose goroutine pops

	mu       sync.Mutex      // guards the used ring
	ring     guestmem.Window // the used ring
	wants    guestmem.Window // the driver's ring, for what it wants to know
	used     uint16          // index of the next used element
	shown    uint16          // the index that the driver sees
	flags    uint16          // of the used ring
	inFlight []bool          // by head: popped and not given back
	spare    []*request      // given back
	kept     int             // what they have room for, in buffers
}

// New makes a queue, or says what is wrong with where the driver put it.
func New(mem *guestmem.Memory, cfg Config) (*Queue, error) {
	if cfg.Size == 0 || cfg.Size > MaxSize || cfg.Size&(cfg.Size-1) != 0 {
		return nil, malformed("size %d is no power of two up to %d", cfg.Size, MaxSize)
	}
	q := &Queue{mem: mem, inFlight: make([]bool, cfg.Size)}
	n := uint64(cfg.Size)
	for _, part := range []struct {
		name        string
		addr        guestmem.Addr
		size, align uint64
		window      *guestmem.Window
	}{
		{"descriptor table", cfg.Desc, n * descSize, 16, &q.desc},
		{"available ring", cfg.Avail, ringHeader + n*availElement + 2, 2, &q.avail},
		{"used ring", cfg.Used, ringHeader + n*usedElement + 2, 4, &q.ring},
	} {
		if uint64(part.addr)%part.align != 0 {
			return nil, malformed("%s at %#x is not aligned to %d", part.name, part.addr, part.align)
		}
		var err error
		if *part.window, err = mem.Window(part.addr, part.size); err != nil {
			return nil, malformed("%s at %#x is not in RAM", part.name, part.addr)
		}
	}
	q.wants = q.avail // under another lock
	if cfg.Counters == nil {
		cfg.Counters = new(Counters)
	}
	if cfg.Gate == nil {
		cfg.Gate = new(Gate)
	}
	q.cfg = cfg
	return q, nil
}

// Size is the number of descriptors.
func (q *Queue) Size() uint16 { return q.cfg.Size }

// fail remembers the first error; the queue is of no more use.
func (q *Queue) fail(err error) error {
	q.err = err
	return err
}

// Places in the rings.
const (
	ringFlags = 0
	ringIdx   = 2
)

func (q *Queue) availElem(i uint16) uint64 { return ringHeader + availElement*uint64(i%q.cfg.Size) }
func (q *Queue) usedEvent() uint64         { return ringHeader + availElement*uint64(q.cfg.Size) }
func (q *Queue) usedElem(i uint16) uint64  { return ringHeader + usedElement*uint64(i%q.cfg.Size) }
func (q *Queue) availEvent() uint64        { return ringHeader + usedElement*uint64(q.cfg.Size) }

// pending is how many chains the driver has made available and Pop has not
// taken.
func (q *Queue) pending() (uint16, error) {
	if err := q.avail.Check(); err != nil {
		return 0, q.fail(err)
	}
	n := q.avail.LoadUint16(ringIdx) - q.next
	if n > q.cfg.Size {
		return 0, q.fail(malformed("%d chains available in a queue of %d", n, q.cfg.Size))
	}
	q.known = n
	return n, nil
}

// Pop takes the next chain, nil if there is none.
func (q *Queue) Pop() (*Chain, error) {
	if err := q.cfg.Gate.enter(); err != nil {
		return nil, err
	}
	defer q.cfg.Gate.leave()
	return q.pop()
}

func (q *Queue) pop() (*Chain, error) {
	if q.err != nil {
		return nil, q.err
	}
	if q.known == 0 {
		if n, err := q.pending(); n == 0 || err != nil {
			return nil, err
		}
	} else if err := q.avail.Check(); err != nil {
		return nil, q.fail(err)
	}
	head := q.avail.LoadUint16(q.availElem(q.next))
	r, err := q.take(head)
	if err != nil {
		return nil, q.fail(err)
	}
	c, err := q.chain(head, r)
	if err != nil {
		return nil, q.fail(err)
	}
	q.next++
	q.known--
	q.cfg.Counters.Popped.Add(1)
	q.cfg.Counters.Sent.Add(uint64(c.Reader.Len()))
	return c, nil
}

// take marks head as in flight, so that there are never more chains in flight than
// descriptors, and none twice. It returns what to read the chain into.
func (q *Queue) take(head uint16) (*request, error) {
	if head >= q.cfg.Size {
		return nil, malformed("head %d in a queue of %d", head, q.cfg.Size)
	}
	q.mu.Lock()
	if q.inFlight[head] {
		q.mu.Unlock()
		return nil, malformed("head %d is available while it is being used", head)
	}
	q.inFlight[head] = true
	var r *request
	if last := len(q.spare) - 1; last >= 0 {
		r = q.spare[last]
		q.spare = q.spare[:last]
		q.kept -= r.kept()
	}
	q.mu.Unlock()
	if r == nil {
		r = newRequest(q.cfg.Gate)
	}
	return r, nil
}

// Push gives c back and shows it to the driver: written bytes of its room have
// been filled. A chain is given back once.
func (q *Queue) Push(c *Chain, written uint32) error {
	if err := q.cfg.Gate.enter(); err != nil {
		return err
	}
	defer q.cfg.Gate.leave()
	q.mu.Lock()
	defer q.mu.Unlock()
	if err := q.put(c, written); err != nil {
		return err
	}
	return q.show()
}

// Put gives c back as Push does, but the driver sees it only with the next
// Publish or Push: for chains that it has to see at once, or one interrupt for
// many.
func (q *Queue) Put(c *Chain, written uint32) error {
	if err := q.cfg.Gate.enter(); err != nil {
		return err
	}
	defer q.cfg.Gate.leave()
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.put(c, written)
}

// Publish shows the driver what was Put.
func (q *Queue) Publish() error {
	if err := q.cfg.Gate.enter(); err != nil {
		return err
	}
	defer q.cfg.Gate.leave()
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.show()
}

func (q *Queue) put(c *Chain, written uint32) error {
	if c.queue != q {
		return errors.New("virtq: gave back a chain that is not in flight")
	}
	c.queue = nil
	q.inFlight[c.head] = false
	if err := q.ring.Check(); err != nil {
		return err
	}
	elem := q.usedElem(q.used)
	q.ring.StoreUint32(elem, uint32(c.head))
	q.ring.StoreUint32(elem+4, written)
	q.used++
	q.keep(c.whole)
	q.cfg.Counters.Pushed.Add(1)
	q.cfg.Counters.Received.Add(uint64(written))
	return nil
}

// keep has r for the next chain. All that are kept have room for as many buffers as the
// queue has descriptors: a guest that sent many long chains once is not to hold memory
// of the host's by it.
func (q *Queue) keep(r *request) {
	r.reader.bufs, r.reader.left = nil, 0
	r.writer.bufs, r.writer.left = nil, 0
	if q.kept+r.kept() > int(q.cfg.Size) {
		r.bufs = r.first[:]
	}
	q.kept += r.kept()
	q.spare = append(q.spare, r)
}

// show publishes the used elements, and interrupts a driver that wants it.
func (q *Queue) show() error {
	old := q.shown
	if q.shown = q.used; q.shown == old {
		return nil
	}
	// The store that publishes the elements comes after those that fill them.
	if err := q.publish(); err != nil {
		return err
	}
	interrupt, err := q.wantsInterrupt(old)
	if err != nil || !interrupt {
		return err
	}
	return q.cfg.Notify()
}

// publish stores flags and index of the used ring, which only the device
// writes, in one.
func (q *Queue) publish() error {
	if err := q.ring.Check(); err != nil {
		return err
	}
	q.ring.StoreUint32(ringFlags, uint32(q.flags)|uint32(q.shown)<<16)
	return nil
}

// wantsInterrupt reports whether the driver wants to know of one of the used
// elements just published, old and on. Reading what it wants must not come before
// the publishing: both are sequentially consistent atomics, see package guestmem.
func (q *Queue) wantsInterrupt(old uint16) (bool, error) {
	if err := q.wants.Check(); err != nil {
		return false, err
	}
	if q.cfg.EventIdx {
		return q.wants.LoadUint16(q.usedEvent())-old < q.shown-old, nil // indices wrap
	}
	return q.wants.LoadUint16(ringFlags)&availNoInterrupt == 0, nil
}

// Wait waits until there is a chain to pop, or ctx ends. The driver rings the
// doorbell only while somebody waits. Each call is the end of a piece of the worker's
// work, see package meter.
func (q *Queue) Wait(ctx context.Context) error {
	if q.err != nil {
		return q.err
	}
	if ctx != q.ctx {
		q.ctx, q.worker = ctx, meter.Of(ctx)
	}
	if n, err := q.pending(); n > 0 || err != nil {
		q.worker.Lap()
		return errors.Join(err, ctx.Err())
	}
	if err := q.askForKick(true); err != nil {
		return err
	}
	for {
		// Looked at again after asking: the driver may have looked before.
		if n, err := q.pending(); n > 0 || err != nil {
			return errors.Join(err, q.askForKick(false))
		}
		var err error
		q.worker.Idle(func() {
			err = q.cfg.Kick.Wait(ctx)
			q.worker.Stand()
		})
		if err != nil {
			return err
		}
		q.cfg.Counters.Wakeups.Add(1)
	}
}

// State is how far a queue has got.
type State struct {
	Next     uint16   // index of the available ring: the element to take next
	Used     uint16   // index of the used ring: the element to fill next
	Shown    uint16   // index of the used ring as the driver sees it
	InFlight []uint16 // heads that have been taken and not given back
}

// State is how far the queue has got. Its [Gate] must be shut.
func (q *Queue) State() State {
	s := State{Next: q.next, Used: q.used, Shown: q.shown}
	for head, in := range q.inFlight {
		if in {
			s.InFlight = append(s.InFlight, uint16(head))
		}
	}
	return s
}

// Next waits for the next chain and takes it. It returns ctx's error when ctx
// ends, else an error of Pop.
func (q *Queue) Next(ctx context.Context) (*Chain, error) {
	for {
		if err := q.Wait(ctx); err != nil {
			return nil, err
		}
		// There may be none after all, if the driver took its index back.
		if c, err := q.Pop(); c != nil || err != nil {
			return c, err
		}
	}
}

// askForKick says whether the driver is to ring the doorbell for the next chain.
func (q *Queue) askForKick(on bool) error {
	if err := q.cfg.Gate.enter(); err != nil {
		return err
	}
	defer q.cfg.Gate.leave()
	if q.cfg.EventIdx && !on {
		return nil // it rings once, for the chain it was asked to ring for
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.cfg.EventIdx {
		if err := q.ring.Check(); err != nil {
			return err
		}
		q.ring.StoreUint16(q.availEvent(), q.next)
		return nil
	}
	q.flags = usedNoNotify
	if on {
		q.flags = 0
	}
	return q.publish()
}
