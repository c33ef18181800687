package flow

import (
	"hash/maphash"
	"math/bits"
	"sync"
	"sync/atomic"

	"warder/secmon/lan/packet"
)

const (
	// parts is how many locks there are.
	parts = 16
	// keptPart is which part of the table flows may take that are kept.
	keptPart = 4
)

// MaxPorts is how many ports of a switch can open flows.
const MaxPorts = 1024

// Why flows end otherwise than by being quiet.
const (
	Evicted = "evicted" // there was no room
	Renewed = "renewed" // another one begins between the same ends
)

// Table is the flows. It is safe for concurrent use.
type Table[T any] struct {
	seed    maphash.Seed
	parts   [parts]Part[T]
	ended   func(f *Flow[T], why string)
	next    atomic.Uint64 // the last number of a flow
	evicted atomic.Uint64
}

// Part is some of the flows, with a lock. A flow is looked at and changed while
// its part is locked.
type Part[T any] struct {
	sync.Mutex
	table   *Table[T]
	flows   []Flow[T]
	buckets []int32 // by hash, the first flow, -1 for none
	used    int32   // flows beyond have never been in use
	free    int32   // the first one that is not in use any more, -1 for none
	owners  []list  // by port
	kept    list
	count   int
	frames  uint64 // what all frames share would be fought for by all CPUs
	bytes   uint64
}

// list is flows by when they were last seen.
type list struct {
	newest, oldest int32
	n              int
}

// none is no flow, as an index.
const none = -1

// New makes a table for size flows. Ended is told of a flow that ends otherwise than by
// [Table.Advance], and why, with its part locked.
func New[T any](size int, ended func(f *Flow[T], why string)) *Table[T] {
	t := &Table[T]{seed: maphash.MakeSeed(), ended: ended}
	each := max(size/parts, 1)
	for i := range t.parts {
		p := &t.parts[i]
		p.table, p.free, p.kept = t, none, list{newest: none, oldest: none}
		p.flows = make([]Flow[T], each)
		p.buckets = make([]int32, 1<<bits.Len(uint(each)))
		for b := range p.buckets {
			p.buckets[b] = none
		}
	}
	return t
}

// Part gives the part that a key is in, and its hash.
func (t *Table[T]) Part(k *Key) (p *Part[T], hash uint64) {
	hash = maphash.Bytes(t.seed, k[:])
	return &t.parts[hash%parts], hash
}

func (p *Part[T]) bucket(hash uint64) int32 { return int32(hash / parts % uint64(len(p.buckets))) }

// Find is the flow that has a key, nil if there is none.
func (p *Part[T]) Find(hash uint64, k *Key) *Flow[T] {
	for i := p.buckets[p.bucket(hash)]; i != none; i = p.flows[i].next {
		if f := &p.flows[i]; f.Key == *k {
			if f.newer != none { // it is the newest now
				p.unlink(f)
				p.link(f)
			}
			return f
		}
	}
	return nil
}

// Add makes the flow of a frame whose key no flow has, opened by a port. It is nil if
// there is no room, or the port is beyond MaxPorts.
func (p *Part[T]) Add(hash uint64, h *packet.Headers, k *Key, vlan uint16, forward bool, port int32, now int64) *Flow[T] {
	if port < 0 || port >= MaxPorts {
		return nil
	}
	i := p.room()
	if i == none {
		return nil
	}
	f := &p.flows[i]
	f.part, f.at, f.bucket = p, i, p.bucket(hash)
	b := &p.buckets[f.bucket]
	f.next, *b = *b, i
	f.begin(h, k, vlan, forward, port, now)
	p.link(f)
	p.count++
	return f
}

// Again ends a flow and has another one begin with a frame in its place.
func (p *Part[T]) Again(f *Flow[T], h *packet.Headers, forward bool, port int32, now int64) {
	p.table.ended(f, Renewed)
	p.unlink(f)
	k := f.Key
	f.begin(h, &k, f.VLAN, forward, port, now)
	p.link(f)
}

// End ends a flow.
func (p *Part[T]) End(f *Flow[T], why string) {
	p.table.ended(f, why)
	p.remove(f)
}

// Keep has the flow known for ten minutes without a frame, and not give way to others
// that are not kept. A quarter of the flows can be.
func (f *Flow[T]) Keep(now int64) {
	p := f.part
	f.Last = now
	if f.kept {
		return
	}
	p.unlink(f)
	f.kept = true
	p.link(f)
	if p.kept.n > max(len(p.flows)/keptPart, 1) {
		p.evict(p.kept.oldest)
	}
}

// room gives a flow that is not in use, none if there is none.
func (p *Part[T]) room() int32 {
	if p.free == none && int(p.used) < len(p.flows) {
		p.used++
		return p.used - 1
	}
	if p.free == none {
		most := 0
		for o := range p.owners {
			if p.owners[o].n > p.owners[most].n {
				most = o
			}
		}
		if len(p.owners) == 0 || p.owners[most].n == 0 {
			return none
		}
		p.evict(p.owners[most].oldest)
	}
	i := p.free
	p.free = p.flows[i].next
	return i
}

func (p *Part[T]) evict(i int32) {
	p.table.evicted.Add(1)
	p.End(&p.flows[i], Evicted)
}

// remove puts a flow among those that are not in use.
func (p *Part[T]) remove(f *Flow[T]) {
	at := &p.buckets[f.bucket]
	for *at != f.at {
		at = &p.flows[*at].next
	}
	*at = f.next
	p.unlink(f)
	i := f.at
	*f = Flow[T]{part: p, at: i, next: p.free}
	p.free = i
	p.count--
}

// list is the list that a flow is in.
func (p *Part[T]) list(f *Flow[T]) *list {
	if f.kept {
		return &p.kept
	}
	for int(f.owner) >= len(p.owners) {
		p.owners = append(p.owners, list{newest: none, oldest: none})
	}
	return &p.owners[f.owner]
}

// link makes a flow its list's newest.
func (p *Part[T]) link(f *Flow[T]) {
	l := p.list(f)
	f.newer, f.old = none, l.newest
	if l.newest != none {
		p.flows[l.newest].newer = f.at
	} else {
		l.oldest = f.at
	}
	l.newest = f.at
	l.n++
}

func (p *Part[T]) unlink(f *Flow[T]) {
	l := p.list(f)
	if f.newer != none {
		p.flows[f.newer].old = f.old
	} else {
		l.newest = f.old
	}
	if f.old != none {
		p.flows[f.old].newer = f.newer
	} else {
		l.oldest = f.newer
	}
	l.n--
}

// Advance hands out the flows that have been quiet for too long at a time, and forgets
// them.
func (t *Table[T]) Advance(now int64, over func(*Flow[T])) {
	t.take(func(f *Flow[T]) bool { return !f.Alive(now) }, func(p *Part[T], f *Flow[T]) {
		over(f)
		p.remove(f)
	})
}

// Drop ends the flows that are to go.
func (t *Table[T]) Drop(which func(*Flow[T]) bool, why string) {
	t.take(which, func(p *Part[T], f *Flow[T]) { p.End(f, why) })
}

func (t *Table[T]) take(which func(*Flow[T]) bool, do func(*Part[T], *Flow[T])) {
	for i := range t.parts {
		p := &t.parts[i]
		p.Lock()
		p.walk(func(f *Flow[T]) bool {
			if which(f) {
				do(p, f)
			}
			return true
		})
		p.Unlock()
	}
}

// Each hands out all flows, each part of the table as it is at one moment, until do
// says no.
func (t *Table[T]) Each(do func(*Flow[T]) bool) {
	for i := range t.parts {
		p := &t.parts[i]
		p.Lock()
		more := p.walk(do)
		p.Unlock()
		if !more {
			return
		}
	}
}

// walk hands out the flows, which may be removed meanwhile, until do says no.
func (p *Part[T]) walk(do func(*Flow[T]) bool) bool {
	for o := range p.owners {
		if !p.walkList(&p.owners[o], do) {
			return false
		}
	}
	return p.walkList(&p.kept, do)
}

func (p *Part[T]) walkList(l *list, do func(*Flow[T]) bool) bool {
	for i := l.oldest; i != none; {
		f := &p.flows[i]
		i = f.newer
		if !do(f) {
			return false
		}
	}
	return true
}

// Opened is how many flows there are that a port has opened.
func (t *Table[T]) Opened(port int32) (n int) {
	for i := range t.parts {
		p := &t.parts[i]
		p.Lock()
		if int(port) < len(p.owners) {
			n += p.owners[port].n
		}
		p.Unlock()
	}
	return n
}

// Counts are how many flows there are, and what [Flow.Count] has counted.
func (t *Table[T]) Counts() (flows int, frames, bytes uint64) {
	for i := range t.parts {
		p := &t.parts[i]
		p.Lock()
		flows += p.count
		frames += p.frames
		bytes += p.bytes
		p.Unlock()
	}
	return flows, frames, bytes
}

// Evicted is how many flows had to go before they were over.
func (t *Table[T]) Evicted() uint64 { return t.evicted.Load() }
