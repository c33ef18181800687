package event

import (
	"context"
	"sync"
	"time"
)

// Queue is a first-in first-out queue of events with a bounded ring for each VM: what
// one VM does without end pushes out nothing of another's. Put never waits and
// allocates nothing but a VM's ring, once. Events that find their ring full are counted
// and reported as one [Loss] event, in the place where they are missing.
type Queue struct {
	mu    sync.Mutex
	size  int
	rings map[string]*ring // by VM
	order uint64           // of the next event
	total uint64           // lost
	ready chan struct{}    // holds a token when there may be something to take
	taken chan struct{}    // closed when all has been taken, if somebody waits for it
}

// ring holds the events of one VM that wait, and behind them those that did not
// fit.
type ring struct {
	slots     []slot
	first, n  int
	lost      uint64 // since the last report
	lostOrder uint64 // of the first of them
}

type slot struct {
	order uint64
	event Event
}

// maxIdle is how many rings with nothing in them are kept.
const maxIdle = 64

// NewQueue makes a queue for up to size events of each VM.
func NewQueue(size int) *Queue {
	return &Queue{size: max(size, 1), rings: make(map[string]*ring), ready: make(chan struct{}, 1)}
}

// Put appends an event and says whether there was room.
func (q *Queue) Put(e Event) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	defer q.signal()
	r := q.rings[e.VM]
	if r == nil {
		q.forgetIdle()
		r = &ring{slots: make([]slot, q.size)}
		q.rings[e.VM] = r
	}
	order := q.order
	q.order++
	// After a loss nothing goes in until the loss has been reported, so that
	// its report stands where the gap is.
	if r.n == len(r.slots) || r.lost > 0 {
		if r.lost == 0 {
			r.lostOrder = order
		}
		r.lost++
		q.total++
		return false
	}
	r.slots[(r.first+r.n)%len(r.slots)] = slot{order, e}
	r.n++
	return true
}

// forgetIdle drops the rings of VMs that have been silent, if there are many.
func (q *Queue) forgetIdle() {
	if len(q.rings) < maxIdle {
		return
	}
	for vm, r := range q.rings {
		if _, waits := r.head(); !waits {
			delete(q.rings, vm)
		}
	}
}

// head is the order of what is next in the ring.
func (r *ring) head() (order uint64, ok bool) {
	if r.n > 0 {
		return r.slots[r.first].order, true
	}
	return r.lostOrder, r.lost > 0
}

// next is the VM whose turn it is, nil when nothing waits.
func (q *Queue) next() (vm string, r *ring) {
	lowest := uint64(0)
	for name, candidate := range q.rings {
		if order, ok := candidate.head(); ok && (r == nil || order < lowest) {
			vm, r, lowest = name, candidate, order
		}
	}
	return vm, r
}

func (q *Queue) signal() {
	select {
	case q.ready <- struct{}{}:
	default:
	}
}

// Next takes the oldest event, waiting for one until ctx ends.
func (q *Queue) Next(ctx context.Context) (Event, error) {
	for {
		if e, ok := q.take(); ok {
			return e, nil
		}
		select {
		case <-q.ready:
		case <-ctx.Done():
			return Event{}, ctx.Err()
		}
	}
}

func (q *Queue) take() (Event, bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	vm, r := q.next()
	if r == nil {
		return Event{}, false
	}
	var e Event
	if r.n > 0 {
		s := &r.slots[r.first]
		e, *s = s.event, slot{}
		r.first = (r.first + 1) % len(r.slots)
		r.n--
	} else {
		e = Event{Time: time.Now().UnixNano(), Kind: Loss, VM: vm, Lost: r.lost}
		r.lost = 0
	}
	if _, left := q.next(); left == nil && q.taken != nil {
		close(q.taken)
		q.taken = nil
	}
	return e, true
}

// Drained waits until everything has been taken, or ctx ends.
func (q *Queue) Drained(ctx context.Context) error {
	for {
		q.mu.Lock()
		if _, waits := q.next(); waits == nil {
			q.mu.Unlock()
			return nil
		}
		taken := q.taken
		if taken == nil {
			taken = make(chan struct{})
			q.taken = taken
		}
		q.mu.Unlock()
		select {
		case <-taken:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// Lost is how many events did not get in, all VMs together.
func (q *Queue) Lost() uint64 {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.total
}
