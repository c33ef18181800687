package event

import (
	"context"
	"sync"
	"time"
)

// Queue is a bounded first-in first-out queue of events. Put never waits.
// Events that find it full are counted for the VM that they came from and
// reported as one [Loss] event a VM, in the place where they are missing.
type Queue struct {
	mu    sync.Mutex
	ring  []Event
	first int
	n     int
	lost  map[string]uint64 // since the last report, by VM
	order []string          // keys of lost, in order of the first loss
	total uint64
	ready chan struct{} // holds a token when there may be something to take
	taken chan struct{} // closed when all has been taken, if somebody waits for it
}

// NewQueue makes a queue for up to size events.
func NewQueue(size int) *Queue {
	return &Queue{
		ring:  make([]Event, max(size, 1)),
		lost:  make(map[string]uint64),
		ready: make(chan struct{}, 1),
	}
}

// Put appends an event and says whether there was room.
func (q *Queue) Put(e Event) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	defer q.signal()
	// After a loss nothing goes in until the loss has been reported, so that
	// its report stands where the gap is.
	if q.n == len(q.ring) || len(q.order) > 0 {
		if q.lost[e.VM] == 0 {
			q.order = append(q.order, e.VM)
		}
		q.lost[e.VM]++
		q.total++
		return false
	}
	q.ring[(q.first+q.n)%len(q.ring)] = e
	q.n++
	return true
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
	defer func() {
		if q.taken != nil && q.n == 0 && len(q.order) == 0 {
			close(q.taken)
			q.taken = nil
		}
	}()
	if q.n > 0 {
		e := q.ring[q.first]
		q.ring[q.first] = Event{}
		q.first = (q.first + 1) % len(q.ring)
		q.n--
		return e, true
	}
	if len(q.order) > 0 {
		vm := q.order[0]
		e := Event{Time: time.Now().UnixNano(), Kind: Loss, VM: vm, Lost: q.lost[vm]}
		delete(q.lost, vm)
		q.order = q.order[1:]
		return e, true
	}
	return Event{}, false
}

// Drained waits until everything has been taken, or ctx ends.
func (q *Queue) Drained(ctx context.Context) error {
	for {
		q.mu.Lock()
		empty := q.n == 0 && len(q.order) == 0
		if empty {
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
