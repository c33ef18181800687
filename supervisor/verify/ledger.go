// Package verify decides whether a service may have what it asks for.
//
// The [Ledger] keeps the books: what the machine has, and who holds how much of
// it. It decides against what has been committed, not against what happens to be
// idle. Nothing here knows a machine, so that the decision can be made where
// there is none.
package verify

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/dustin/go-humanize"
)

// A Claim is what one holder needs of the machine as long as it runs.
type Claim struct {
	VCPUs  int    `json:"vcpus"`
	Memory uint64 `json:"memory"` // bytes
	// Things are what only one can hold, or many that only read it.
	Things []Thing `json:"things,omitempty"`
}

// A Thing is something of the host's that is there once.
type Thing struct {
	Kind   string `json:"kind"` // disk, tap, address, ...
	Name   string `json:"name"`
	Shared bool   `json:"shared,omitempty"` // with others that claim it as shared
}

func (t Thing) key() string { return t.Kind + " " + t.Name }

// Capacity is what there is to hold. Zero values are no bound.
type Capacity struct {
	VCPUs   int    `json:"vcpus,omitempty"`
	Memory  uint64 `json:"memory,omitempty"`  // bytes for all together
	Holders int    `json:"holders,omitempty"` // VMs at a time
}

// A Meter tells what is used at this moment, in bytes.
type Meter interface {
	// Measure tells how much of what each holder claims it has taken already, and
	// then how much memory the machine has for more: what is taken meanwhile counts
	// twice, not never.
	Measure() (used map[string]uint64, available uint64)
}

// A Ledger is the books of one machine. It is safe for concurrent use.
type Ledger struct {
	capacity Capacity
	meter    Meter
	headroom uint64

	mu       sync.Mutex
	held     map[string]Claim
	things   map[string]*holding
	reserved Reserved
}

// holding is who has a thing.
type holding struct {
	shared  bool
	holders map[string]bool
}

// NewLedger makes the books of a machine of which nothing is held. Memory is
// granted only as long as headroom bytes stay available beyond all that has been
// promised; meter is nil where capacity alone counts.
func NewLedger(c Capacity, meter Meter, headroom uint64) *Ledger {
	return &Ledger{capacity: c, meter: meter, headroom: headroom, held: make(map[string]Claim), things: make(map[string]*holding)}
}

// Turn is the resource of a refusal that says that another comes first.
const Turn = "turn"

// Reserved is memory of the machine's own that no holder can be granted. No capacity
// bounds it.
type Reserved struct {
	For    string `json:"for"`
	Memory uint64 `json:"memory"` // bytes
}

// Reserve keeps memory for the machine's own.
func (l *Ledger) Reserve(r Reserved) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.reserved = r
}

// A Refusal is a resource that there is not enough of, with the numbers.
type Refusal struct {
	Resource string `json:"resource"` // vcpus, memory, vms, turn, or a thing's kind and name
	Wanted   uint64 `json:"wanted"`
	Free     uint64 `json:"free"`
	// Committed is what others hold of it; Holder is who, for a thing and a turn.
	Committed uint64 `json:"committed"`
	Holder    string `json:"holder,omitempty"`
}

func (r *Refusal) Error() string {
	switch r.Resource {
	case "memory":
		return fmt.Sprintf("not enough memory: it may need %s, %s can be promised (%s is promised to others)",
			humanize.IBytes(r.Wanted), humanize.IBytes(r.Free), humanize.IBytes(r.Committed))
	case "vcpus", "vms":
		return fmt.Sprintf("not enough %s: it needs %d, %d are free (others hold %d)", r.Resource, r.Wanted, r.Free, r.Committed)
	case Turn:
		return fmt.Sprintf("not enough is free: %s, with a greater priority, waits for more", r.Holder)
	}
	return fmt.Sprintf("%s is held by %s", r.Resource, r.Holder)
}

// Amount tells whether it is something of which others give back some with time, and
// not a thing that is held.
func (r *Refusal) Amount() bool {
	return slices.Contains([]string{"memory", "vcpus", "vms", Turn}, r.Resource)
}

// Others tells whether it is an amount that there would be enough of if others gave back
// all that they hold.
func (r *Refusal) Others() bool {
	return r.Resource == Turn || r.Amount() && r.Wanted <= r.Free+r.Committed
}

// Grant commits a claim to a holder, all of it or nothing. The error is a
// *Refusal where the machine does not have it.
func (l *Ledger) Grant(holder string, c Claim) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, ok := l.held[holder]; ok {
		return fmt.Errorf("%s holds resources already", holder)
	}
	if c.VCPUs < 0 {
		return fmt.Errorf("%s: %d vCPUs", holder, c.VCPUs)
	}
	own := make(map[string]bool)
	for _, t := range c.Things {
		if own[t.key()] {
			return fmt.Errorf("%s names %s twice", holder, t.key())
		}
		own[t.key()] = true
	}
	if err := l.fits(c); err != nil {
		return err
	}
	l.hold(holder, c)
	return nil
}

// Take notes what a holder has already, by books before these: it fits or not.
func (l *Ledger) Take(holder string, c Claim) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.hold(holder, c)
}

// hold notes a claim. The caller holds the lock.
func (l *Ledger) hold(holder string, c Claim) {
	c.Things = slices.Clone(c.Things)
	l.held[holder] = c
	for _, t := range c.Things {
		h := l.things[t.key()]
		if h == nil {
			h = &holding{shared: t.Shared, holders: make(map[string]bool)}
			l.things[t.key()] = h
		}
		h.holders[holder] = true
	}
}

// fits says which resource there is not enough of. The caller holds the lock.
func (l *Ledger) fits(c Claim) error {
	total := l.total()
	if r := short("vms", 1, uint64(len(l.held)), uint64(l.capacity.Holders)); r != nil {
		return r
	}
	if r := short("vcpus", uint64(c.VCPUs), uint64(total.VCPUs), uint64(l.capacity.VCPUs)); r != nil {
		return r
	}
	if r := short("memory", c.Memory, total.Memory, l.capacity.Memory); r != nil {
		return r
	}
	if free := l.memory().promisable; c.Memory > free {
		return &Refusal{Resource: "memory", Wanted: c.Memory, Free: free, Committed: total.Memory}
	}
	for _, t := range c.Things {
		if h := l.things[t.key()]; h != nil && !(h.shared && t.Shared) {
			return &Refusal{Resource: t.key(), Wanted: 1, Committed: uint64(len(h.holders)), Holder: strings.Join(slices.Sorted(maps.Keys(h.holders)), ", ")}
		}
	}
	return nil
}

// short compares what is wanted with what a capacity leaves, 0 for no bound.
func short(resource string, wanted, committed, capacity uint64) error {
	if capacity == 0 || committed <= capacity && wanted <= capacity-committed {
		return nil
	}
	return &Refusal{Resource: resource, Wanted: wanted, Free: capacity - min(capacity, committed), Committed: committed}
}

// measured is what a meter says, and what follows for what can be promised.
type measured struct {
	used       map[string]uint64
	available  uint64
	promisable uint64
}

// memory measures how much can be promised at this moment: what is available, without
// what has been promised and not been taken yet, and without the headroom.
func (l *Ledger) memory() (m measured) {
	if l.meter == nil {
		return measured{promisable: math.MaxUint64}
	}
	m.used, m.available = l.meter.Measure()
	pledged := l.headroom + l.reserved.Memory - min(l.reserved.Memory, m.used[l.reserved.For])
	for holder, c := range l.held {
		pledged += c.Memory - min(c.Memory, m.used[holder])
	}
	m.promisable = m.available - min(m.available, pledged)
	return m
}

// total is all that is promised. The caller holds the lock.
func (l *Ledger) total() (sum Claim) {
	for _, c := range l.held {
		sum.VCPUs += c.VCPUs
		sum.Memory += c.Memory
	}
	return sum
}

// Resize has a holder hold so many vCPUs and bytes of memory, or as many of those
// that are more than it holds as can be promised, and gives how much it holds then:
// nothing for one that held nothing.
func (l *Ledger) Resize(holder string, vcpus int, memory uint64) (int, uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	c, ok := l.held[holder]
	if !ok {
		return 0, 0
	}
	total := l.total()
	if more := vcpus - c.VCPUs; more > 0 && l.capacity.VCPUs > 0 {
		vcpus = c.VCPUs + min(more, max(l.capacity.VCPUs-total.VCPUs, 0))
	}
	if memory > c.Memory {
		free := l.memory().promisable
		if limit := l.capacity.Memory; limit > 0 {
			free = min(free, limit-min(limit, total.Memory))
		}
		memory = c.Memory + min(memory-c.Memory, free)
	}
	c.VCPUs, c.Memory = max(vcpus, 0), memory
	l.held[holder] = c
	return c.VCPUs, c.Memory
}

// Return takes back all that a holder has; one that has nothing is none.
func (l *Ledger) Return(holder string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, t := range l.held[holder].Things {
		h := l.things[t.key()]
		delete(h.holders, holder)
		if len(h.holders) == 0 {
			delete(l.things, t.key())
		}
	}
	delete(l.held, holder)
}

// A Balance is what the books say at one moment.
type Balance struct {
	Capacity  Capacity `json:"capacity"`
	Committed Capacity `json:"committed"`
	// Reserved is beside what is committed, and not there to be promised.
	Reserved Reserved `json:"reserved,omitzero"`
	// Promisable is how much memory could be granted now, in bytes.
	Promisable uint64 `json:"promisable"`
	// Available is how much memory the machine has for more, Used how much of what is
	// committed was taken already, in bytes; both are 0 without a meter.
	Available uint64  `json:"available"`
	Used      uint64  `json:"used"`
	Grants    []Grant `json:"grants"` // by holder
	// Waiting are those who want more than there is, who gets it first at the top.
	Waiting []Waiting `json:"waiting,omitempty"`
}

// What one waits for.
const (
	ToStart = "start"
	ToGrow  = "grow"
)

// Waiting is one who waits for what others hold.
type Waiting struct {
	Service  string    `json:"service"`
	Priority int       `json:"priority"`
	For      string    `json:"for"` // start or grow
	Since    time.Time `json:"since"`
}

// A Grant is what one holder has.
type Grant struct {
	Holder string `json:"holder"`
	Claim
	Used uint64 `json:"used"` // of its memory, in bytes
}

// Balance reads the books.
func (l *Ledger) Balance() Balance {
	l.mu.Lock()
	defer l.mu.Unlock()
	total := l.total()
	b := Balance{
		Capacity:  l.capacity,
		Committed: Capacity{VCPUs: total.VCPUs, Memory: total.Memory, Holders: len(l.held)},
		Reserved:  l.reserved,
		Grants:    []Grant{},
	}
	m := l.memory()
	b.Promisable, b.Available = m.promisable, m.available
	if l.capacity.Memory > 0 {
		b.Promisable = min(b.Promisable, l.capacity.Memory-min(l.capacity.Memory, total.Memory))
	}
	for holder, c := range l.held {
		b.Used += m.used[holder]
		b.Grants = append(b.Grants, Grant{Holder: holder, Claim: c, Used: m.used[holder]})
	}
	slices.SortFunc(b.Grants, func(a, b Grant) int { return cmp.Compare(a.Holder, b.Holder) })
	return b
}
