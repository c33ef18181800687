package network

import (
	"context"
	"sync"
	"time"

	"warder/secmon/lan"
)

const (
	// lookEvery is the time from one look who makes use of services to the next.
	lookEvery = time.Second
	// refusedPause is for how long a service is not tried again that did not come up: who
	// begins a conversation decides how often that is.
	refusedPause = time.Second
)

// A waker brings up services that sleep, for who begins a conversation with them on the LAN,
// and holds them while somebody is in one. There is at most one goroutine for each service
// that is brought up, and one for those that are held.
type waker struct {
	lan    *lan.Switch
	hold   Hold
	ctx    context.Context
	cancel context.CancelFunc
	work   sync.WaitGroup

	mu      sync.Mutex // before the locks of the switch
	held    map[*lan.Port]*held
	looking bool // the one for all does
	closed  bool
}

// held is a hold that the waker has.
type held struct{ release func() }

func newWaker(s *lan.Switch, hold Hold) *waker {
	w := &waker{lan: s, hold: hold, held: make(map[*lan.Port]*held)}
	w.ctx, w.cancel = context.WithCancel(context.Background())
	return w
}

// wake is [lan.PortConfig.Wake].
func (w *waker) wake(p, by *lan.Port) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.closed {
		w.work.Go(func() { w.bringUp(p, by.Name()) })
	}
}

func (w *waker) bringUp(p *lan.Port, by string) {
	alive, release, err := w.hold(w.ctx, p.Name(), by)
	if err != nil { // which who holds has told
		select {
		case <-time.After(refusedPause):
		case <-w.ctx.Done():
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	before := w.held[p] // if it was woken in the middle of letGo
	switch {
	case err != nil && before == nil:
		p.Sleep()
	case err != nil:
	case w.closed:
		release()
	default:
		if before != nil {
			before.release()
		}
		h := &held{release}
		w.held[p] = h
		p.Awake()
		context.AfterFunc(alive, func() { w.ended(p, h) })
		if !w.looking {
			w.looking = true
			w.work.Go(w.look)
		}
	}
}

// ended lets go of a service whose VM has ended.
func (w *waker) ended(p *lan.Port, h *held) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.held[p] == h {
		p.Sleep()
		delete(w.held, p)
		h.release()
	}
}

// look lets go of services that nobody makes use of, until there are none.
func (w *waker) look() {
	again := time.NewTicker(lookEvery)
	defer again.Stop()
	for since := time.Now(); ; {
		select {
		case <-again.C:
		case <-w.ctx.Done():
			return
		}
		now := time.Now()
		if !w.letGo(since) {
			return
		}
		since = now
	}
}

// letGo lets go of services of which nobody has made use since a time, and reports whether
// there are others.
func (w *waker) letGo(since time.Time) bool {
	used := w.lan.InUse(since)
	w.mu.Lock()
	defer w.mu.Unlock()
	var idle []*lan.Port
	for p := range w.held {
		if !used[p] {
			p.Sleep()
			idle = append(idle, p)
		}
	}
	if len(idle) > 0 {
		used = w.lan.InUse(since) // who came before it slept
	}
	for _, p := range idle {
		if used[p] {
			p.Awake()
			continue
		}
		w.held[p].release()
		delete(w.held, p)
	}
	w.looking = len(w.held) > 0
	return w.looking
}

// close lets go of all services, and brings up no more.
func (w *waker) close() {
	w.mu.Lock()
	w.closed = true
	w.mu.Unlock()
	w.cancel()
	w.work.Wait()
	w.mu.Lock()
	defer w.mu.Unlock()
	for p, h := range w.held {
		h.release()
		delete(w.held, p)
	}
}
