package net

import (
	"sync"
	"sync/atomic"
)

// An End is one end of a wire: what is sent at one comes out at the other.
//
// Frames for a receive queue that is full wait in their order, as many as their
// sender has buffers. The wire never drops one but for want of a receiver.
type End struct {
	peer  *End
	to    atomic.Pointer[Receiver] // the device at this end, nil while there is none
	lines [MaxPairs]line
}

// A line is what is on its way to one receive queue of the device at an end.
type line struct {
	mu      sync.Mutex
	to      Receiver // nil while there is none, so that nothing comes behind the last
	waiting []*Frame
	part    int // of the first that waits, from where it has to go on
}

var _ Port = (*End)(nil)

// Wire makes a wire between two devices.
func Wire() (a, b *End) {
	a, b = new(End), new(End)
	a.peer, b.peer = b, a
	return a, b
}

// Start implements Port.
func (e *End) Start(r Receiver) error {
	for i := range e.lines {
		e.lines[i].start(r)
	}
	e.to.Store(&r)
	return nil
}

// Stop implements Port.
func (e *End) Stop() {
	e.to.Store(nil)
	for i := range e.lines {
		e.lines[i].start(nil)
		e.peer.lines[i].drop() // they are all from this end
	}
}

// Send implements Port.
func (e *End) Send(f *Frame) {
	to := e.peer.to.Load()
	if to == nil {
		f.Release()
		return
	}
	queue := (*to).Queue(f)
	e.peer.lines[queue].send(queue, f)
}

// Ready implements Port.
func (e *End) Ready(queue int) { e.lines[queue].drain(queue) }

// start has the line lead to r from now on, with nothing in it.
func (l *line) start(r Receiver) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.to = r
	l.clear()
}

func (l *line) drop() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.clear()
}

func (l *line) clear() {
	for _, f := range l.waiting {
		f.Release()
	}
	clear(l.waiting)
	l.waiting, l.part = l.waiting[:0], 0
}

// send delivers f, or lets it wait behind those that do.
func (l *line) send(queue int, f *Frame) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.waiting) == 0 {
		if l.to != nil {
			var err error
			if l.part, err = l.to.Deliver(queue, f, 0); err == ErrFull {
				l.waiting = append(l.waiting, f)
				return
			}
		}
		f.Release()
		return
	}
	l.waiting = append(l.waiting, f)
}

// drain delivers what waits until the queue is full again.
func (l *line) drain(queue int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i, f := range l.waiting {
		var err error
		if l.part, err = l.to.Deliver(queue, f, l.part); err == ErrFull {
			n := copy(l.waiting, l.waiting[i:])
			l.waiting = l.waiting[:n]
			return
		}
		l.part = 0
		f.Release()
	}
	l.waiting = l.waiting[:0]
}
