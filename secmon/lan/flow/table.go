package flow

import (
	"hash/maphash"
	"math/bits"
	"sync"
	"sync/atomic"

	"warder/secmon/lan/packet"
)

// parts is how many locks there are.
const parts = 16

// MaxPorts is how many ports of a switch can open flows.
const MaxPorts = 1024

// Table is the flows. It is safe for concurrent use.
type Table[T any] struct {
	seed    maphash.Seed
	parts   [parts]Part[T]
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
	count   int
	frames  uint64 // that were counted
	bytes   uint64
	evict   func(*Flow[T])
}

// list is the flows of one owner by when they were last seen.
type list struct {
	newest, oldest int32
	n              int
}

// none is no flow, as an index.
const none = -1

// New makes a table for size flows. Evict is called for a flow that has to go
// before it is over, with its part locked.
func New[T any](size int, evict func(*Flow[T])) *Table[T] {
	t := &Table[T]{seed: maphash.MakeSeed()}
	each := max(size/parts, 1)
	for i := range t.parts {
		p := &t.parts[i]
		p.table, p.evict, p.free = t, evict, none
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

// Get finds the flow of a frame, or makes it. Fresh says that it was made. A port
// beyond MaxPorts opens none.
func (p *Part[T]) Get(hash uint64, h *packet.Headers, k *Key, vlan uint16, forward bool, port int32, now int64) (f *Flow[T], fresh bool) {
	bucket := &p.buckets[hash/parts%uint64(len(p.buckets))]
	for i := *bucket; i != none; i = p.flows[i].next {
		if f := &p.flows[i]; f.Key == *k {
			p.touch(i)
			return f, false
		}
	}
	if port < 0 || port >= MaxPorts {
		return nil, false
	}
	i := p.room()
	f = &p.flows[i]
	f.begin(h, *k, vlan, forward, port, now)
	f.next, *bucket = *bucket, i
	p.link(i)
	p.count++
	return f, true
}

// Again has a flow that was over begin anew with a frame.
func (p *Part[T]) Again(f *Flow[T], h *packet.Headers, forward bool, port int32, now int64) {
	i := p.index(f)
	next := f.next
	p.unlink(i)
	f.begin(h, f.Key, f.VLAN, forward, port, now)
	f.next = next
	p.link(i)
}

func (p *Part[T]) index(f *Flow[T]) int32 {
	hash := maphash.Bytes(p.table.seed, f.Key[:])
	i := p.buckets[hash/parts%uint64(len(p.buckets))]
	for &p.flows[i] != f {
		i = p.flows[i].next
	}
	return i
}

// room gives a flow that is not in use.
func (p *Part[T]) room() int32 {
	if i := p.free; i != none {
		p.free = p.flows[i].next
		return i
	}
	if int(p.used) < len(p.flows) {
		p.used++
		return p.used - 1
	}
	most := 0
	for o := range p.owners {
		if p.owners[o].n > p.owners[most].n {
			most = o
		}
	}
	p.table.evicted.Add(1)
	i := p.owners[most].oldest
	p.evict(&p.flows[i])
	p.remove(i)
	p.free = p.flows[i].next
	return i
}

// remove puts a flow among those that are not in use.
func (p *Part[T]) remove(i int32) {
	f := &p.flows[i]
	hash := maphash.Bytes(p.table.seed, f.Key[:])
	at := &p.buckets[hash/parts%uint64(len(p.buckets))]
	for *at != i {
		at = &p.flows[*at].next
	}
	*at = f.next
	p.unlink(i)
	var nothing T
	f.Data = nothing
	f.next, p.free = p.free, i
	p.count--
}

// link makes a flow its owner's newest.
func (p *Part[T]) link(i int32) {
	f := &p.flows[i]
	for int(f.owner) >= len(p.owners) {
		p.owners = append(p.owners, list{newest: none, oldest: none})
	}
	l := &p.owners[f.owner]
	f.newer, f.old = none, l.newest
	if l.newest != none {
		p.flows[l.newest].newer = i
	} else {
		l.oldest = i
	}
	l.newest = i
	l.n++
}

func (p *Part[T]) unlink(i int32) {
	f := &p.flows[i]
	l := &p.owners[f.owner]
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

func (p *Part[T]) touch(i int32) {
	if p.flows[i].newer != none {
		p.unlink(i)
		p.link(i)
	}
}

// Advance hands out the flows that are over at a time, and forgets them.
func (t *Table[T]) Advance(now int64, over func(*Flow[T])) {
	for i := range t.parts {
		p := &t.parts[i]
		p.Lock()
		for o := range p.owners {
			for i := p.owners[o].oldest; i != none; {
				f := &p.flows[i]
				newer := f.newer
				if now-f.Last > Idle(f.Protocol, f.State) {
					over(f)
					p.remove(i)
				}
				i = newer
			}
		}
		p.Unlock()
	}
}

// Each hands out all flows, each part of the table as it is at one moment, until do
// says no.
func (t *Table[T]) Each(do func(*Flow[T]) bool) {
	for i := range t.parts {
		p := &t.parts[i]
		if !p.each(do) {
			return
		}
	}
}

func (p *Part[T]) each(do func(*Flow[T]) bool) bool {
	p.Lock()
	defer p.Unlock()
	for o := range p.owners {
		for i := p.owners[o].newest; i != none; i = p.flows[i].old {
			if !do(&p.flows[i]) {
				return false
			}
		}
	}
	return true
}

// Count counts a frame of size bytes of any of the part's flows. What all frames
// share would be fought for by all CPUs.
func (p *Part[T]) Count(size int) {
	p.frames++
	p.bytes += uint64(size)
}

// Counts are how many flows there are, and what was counted by [Part.Count].
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
