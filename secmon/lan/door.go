package lan

import (
	"sync"
	"sync/atomic"

	"warder/secmon/lan/packet"
)

const (
	// doorFrames is how many frames may wait for one port to wake, doorOfOne how many of
	// them of one sender, and doorOfAll how many of a sender wait anywhere when another
	// may wait at a door: they are descriptors of its VM for as long as a start takes.
	doorFrames = 64
	doorOfOne  = 8
	doorOfAll  = 40
	// settles is for how long after its start a VM may refuse what has woken it, ns: it
	// runs, and does not listen yet.
	settles = 30 * second
)

// A door is where conversations wait that others begin with a port that sleeps.
type door struct {
	port *Port
	open atomic.Bool
	// settled is until when refusals are lost, as the switch tells the time.
	settled atomic.Int64

	mu      sync.Mutex
	woken   bool // somebody was told that it is to wake
	started bool // its VM has, since conversations were let in last
	waits   []*transit
}

// Awake lets in the conversations that others begin with a port that has
// [PortConfig.Wake]: first those that wait.
func (p *Port) Awake() {
	d := p.door
	d.mu.Lock()
	defer d.mu.Unlock()
	now := p.sw.now()
	if d.started {
		d.started = false
		d.settled.Store(now + settles)
	}
	d.woken = true
	t := p.sw.table.Load()
	d.lose(func(x *transit) bool {
		if why := x.late(t, now); why != None {
			x.from.lost(why)
		} else {
			x.to(p)
		}
		return true
	})
	d.open.Store(true)
}

// Sleep has them wait from now on until [Port.Awake]; the next one calls
// [PortConfig.Wake] again. Who waits is told that nobody can be reached.
func (p *Port) Sleep() {
	d := p.door
	d.mu.Lock()
	defer d.mu.Unlock()
	d.open.Store(false)
	d.woken = false
	d.lose(func(x *transit) bool {
		x.notify(unreachableHost, unreachableHost6)
		x.from.lost(Asleep)
		return true
	})
}

// sleeps reports whether conversations wait that are begun with the port.
func (p *Port) sleeps() bool { return p.door != nil && !p.door.open.Load() }

// starts notes that the port's VM has a driver from now on.
func (d *door) starts() {
	if d == nil {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.started = true
}

// mayBegin reports whether the frame is of a conversation that its sender has begun, and can
// be the first of it. What a trusted port says wakes nobody: it sees to that itself.
func (x *transit) mayBegin() bool {
	s := &x.seen[0]
	h := &s.Headers
	if s.Flow == 0 || s.Direction != 0 || x.from.cfg.Trusted || icmpError(h) {
		return false
	}
	switch h.Protocol {
	case packet.TCP, packet.ICMP, packet.ICMPv6:
		return opens(h)
	}
	return true
}

// knock has the frame wait until the port wakes, if there is room, and has that begin.
func (x *transit) knock(d *door) {
	d.mu.Lock()
	if d.open.Load() {
		d.mu.Unlock()
		x.to(d.port)
		return
	}
	why := None
	switch { // looked at again, for the door may have been cleared meanwhile
	case x.from.isolated.Load() || d.port.isolated.Load():
		why = Isolated
	case d.room(x):
		x.refs.Add(1)
		x.from.waiting.Add(1)
		d.waits = append(d.waits, x)
	default:
		why = Asleep
	}
	wake := !d.woken && why != Isolated
	d.woken = d.woken || wake
	d.mu.Unlock()
	if why != None {
		x.from.lost(why)
	}
	if wake {
		d.port.cfg.Wake(d.port, x.from)
	}
}

// room reports whether the frame may wait: a connection does once.
func (d *door) room(x *transit) bool {
	if len(d.waits) == doorFrames || x.from.waiting.Load() >= doorOfAll {
		return false
	}
	n, s := 0, &x.seen[0]
	for _, w := range d.waits {
		if w.from != x.from {
			continue
		}
		if n++; n == doorOfOne || s.Headers.Protocol == packet.TCP && w.seen[0].Flow == s.Flow {
			return false
		}
	}
	return true
}

// late says why the frame, which has waited, may not pass any more, None if it may.
func (x *transit) late(t *table, now int64) Reason {
	s := &x.seen[0]
	f := s.Conversation()
	if f == nil {
		return Policy
	}
	defer f.Unlock()
	f.Last = max(f.Last, now) // it passes now
	switch {
	case f.Data.cut:
		return Cut
	case over(f, t.policy, s.From, s.To, now) != "":
		return Policy
	}
	return None
}

// lose takes those that do says out of what waits. The caller holds the lock.
func (d *door) lose(do func(*transit) bool) {
	n := 0
	for _, x := range d.waits {
		if !do(x) {
			d.waits[n] = x
			n++
			continue
		}
		x.from.waiting.Add(-1)
		x.done()
	}
	clear(d.waits[n:])
	d.waits = d.waits[:n]
}

// withdraw loses what waits of one sender's, or of all if it is nil.
func (d *door) withdraw(from *Port, why Reason) {
	if d == nil {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.lose(func(x *transit) bool {
		if from != nil && x.from != from {
			return false
		}
		x.from.lost(why)
		return true
	})
}

// unready reports whether the port has just woken, so that what it refuses others is
// tried again.
func (p *Port) unready(now int64) bool { return p.door != nil && now < p.door.settled.Load() }
