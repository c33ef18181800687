package lan

import (
	"sync"

	"warder/devices/virtio/net"
)

const (
	// laneFrames is how many frames of one sender may wait for one receive queue. A
	// guest's transmit queue has 256 descriptors.
	laneFrames = 64
	// maxWaiting is how many frames of one sender may wait in all, so that it has
	// descriptors left for receivers that do not stand still.
	maxWaiting = 160
	// quantum is how many bytes a lane may send before the next: one frame at least.
	quantum = net.MaxFrame + tagSize
)

// A line is what is on its way to one receive queue.
type line struct {
	port  *Port
	queue int

	mu    sync.Mutex
	to    net.Receiver // nil while there is none
	next  entry        // the frame that is to go next, none if its transit is nil
	part  int          // of next, from where it has to go on
	lanes map[*Port]*lane
	// active are the lanes with frames by priority, in the order of their turns.
	active [MaxPriority + 1][]*lane
}

// An entry is a frame that waits.
type entry struct {
	x      *transit
	tagged bool
}

// A lane is the frames of one sender, first in first out.
type lane struct {
	from   *Port
	frames [laneFrames]entry
	first  int
	n      int
	credit int // bytes that it may still send in its turn
}

// start has the line lead to r from now on, with nothing in it.
func (l *line) start(r net.Receiver) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.to = r
	l.empty(Down)
}

// send delivers the frame of x, or lets it wait behind those of its sender's.
func (l *line) send(x *transit, tagged bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch { // both look again, for the line may have been emptied meanwhile
	case l.to == nil:
		x.from.lost(Down)
		return
	case x.from.isolated.Load() || l.port.isolated.Load():
		x.from.lost(Isolated)
		return
	}
	e := entry{x, tagged}
	if l.next.x == nil && !l.waits() {
		part, err := l.to.Deliver(l.queue, x.as(tagged), 0)
		if err != net.ErrFull {
			l.delivered(e, err)
			return
		}
		x.refs.Add(1)
		x.from.waiting.Add(1)
		l.next, l.part = e, part
		return
	}
	if !l.join(e) {
		x.from.lost(Full)
	}
}

// delivered counts a frame that its receiver has, or will not have.
func (l *line) delivered(e entry, err error) {
	if err != nil {
		e.x.from.lost(Down)
		return
	}
	l.port.counters.received.Add(1)
	l.port.counters.receivedBytes.Add(uint64(e.x.frame.Len))
}

// offer delivers a copy of f if there is room now.
func (l *line) offer(f *net.Frame) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.to == nil || l.port.isolated.Load() {
		return
	}
	if _, err := l.to.Deliver(l.queue, f, 0); err != nil {
		l.port.lost(Full)
		return
	}
	l.port.counters.mirrored.Add(1)
}

// tell delivers a message of the switch's own to its guest, if there is room now.
func (l *line) tell(f *net.Frame) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.to != nil && l.next.x == nil && !l.waits() && !l.port.isolated.Load() {
		_, _ = l.to.Deliver(l.queue, f, 0) // or the guest waits, as without it
	}
}

// waits reports whether frames wait in lanes.
func (l *line) waits() bool {
	for i := range l.active {
		if len(l.active[i]) > 0 {
			return true
		}
	}
	return false
}

// join puts e at the end of its sender's lane.
func (l *line) join(e entry) bool {
	from := e.x.from
	if from.waiting.Load() >= maxWaiting {
		return false
	}
	a := l.lanes[from]
	if a == nil {
		if l.lanes == nil {
			l.lanes = make(map[*Port]*lane)
		}
		a = &lane{from: from}
		l.lanes[from] = a
	}
	if a.n == laneFrames {
		return false
	}
	if a.n == 0 {
		p := &l.active[from.cfg.Priority]
		*p = append(*p, a)
	}
	a.frames[(a.first+a.n)%laneFrames] = e
	a.n++
	e.x.refs.Add(1)
	from.waiting.Add(1)
	return true
}

// drain delivers what waits until the queue is full again.
func (l *line) drain() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for l.to != nil && (l.next.x != nil || l.pick()) {
		var err error
		if l.part, err = l.to.Deliver(l.queue, l.next.x.as(l.next.tagged), l.part); err == net.ErrFull {
			return
		}
		l.delivered(l.next, err)
		l.over()
	}
}

// over takes leave of the frame that was next.
func (l *line) over() {
	l.next.x.from.waiting.Add(-1)
	l.next.x.done()
	l.next, l.part = entry{}, 0
}

// pick makes a frame that waits the next: of the highest priority, and there of the
// lane whose turn it is, by bytes (deficit round robin, Shreedhar and Varghese).
func (l *line) pick() bool {
	for i := MaxPriority; i >= 0; i-- {
		active := l.active[i]
		for len(active) > 0 {
			a := active[0]
			size := a.frames[a.first].x.frame.Len
			if a.credit < size {
				a.credit += quantum
				copy(active, active[1:])
				active[len(active)-1] = a
				continue
			}
			a.credit -= size
			l.next, l.part = a.pop(), 0
			if a.n == 0 {
				a.credit = 0
				l.active[i] = without(active, a)
			}
			return true
		}
	}
	return false
}

func (a *lane) pop() entry {
	e := a.frames[a.first]
	a.frames[a.first] = entry{}
	a.first = (a.first + 1) % laneFrames
	a.n--
	return e
}

// without is list without a, in its place.
func without(list []*lane, a *lane) []*lane {
	n := 0
	for _, b := range list {
		if b != a {
			list[n] = b
			n++
		}
	}
	clear(list[n:])
	return list[:n]
}

// lose empties a lane.
func (l *line) lose(a *lane, why Reason) {
	for a.n > 0 {
		e := a.pop()
		a.from.lost(why)
		a.from.waiting.Add(-1)
		e.x.done()
	}
	a.credit = 0
	p := &l.active[a.from.cfg.Priority]
	*p = without(*p, a)
}

// empty loses all that waits.
func (l *line) empty(why Reason) {
	if l.next.x != nil {
		l.next.x.from.lost(why)
		l.over()
	}
	for _, a := range l.lanes {
		l.lose(a, why)
	}
}

// clear loses all that waits, and what is being delivered is by the time it returns.
func (l *line) clear(why Reason) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.empty(why)
}

// withdraw loses what waits of one sender's.
func (l *line) withdraw(from *Port, why Reason) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.next.x != nil && l.next.x.from == from {
		from.lost(why)
		l.over()
	}
	if a := l.lanes[from]; a != nil {
		l.lose(a, why)
	}
}

// forget is withdraw for a sender that does not come back.
func (l *line) forget(from *Port) {
	l.withdraw(from, Isolated)
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.lanes, from)
}
