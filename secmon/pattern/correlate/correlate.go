// Package correlate decides when matches of rules, taken together, are what a
// Sigma correlation rule describes.
//
// Matches come in as they are observed, in nearly the order of their times;
// within the lateness window their order does not matter: they are taken in the
// order of event time, and the same matches give the same findings on any number
// of workers.
//
// What the specification leaves open is decided so:
//
//   - A condition of gt and gte alone is looked at with every match, over the
//     timespan that ends there. When it holds there is a finding, and the group
//     begins anew: the next finding needs as many matches again.
//   - A condition that more matches can make untrue (lt, lte, eq, neq), an average
//     and a percentile are looked at once, when the timespan is over that began
//     with the group's first match.
//   - The percentile of a value is its share, in percent, of the group's matches.
//   - A match whose event has no value for a field of group-by is in no group.
package correlate

import (
	"cmp"
	"slices"
	"sync"
	"time"

	"warder/secmon/event"
	"warder/secmon/pattern/record"
	"warder/secmon/pattern/sigma"
)

// Limits bound the memory of a correlator. What does not fit pushes out the
// group of the same rule that was longest without a match; every group pushed
// out is counted, for it could have become a finding.
type Limits struct {
	// Groups is how many groups a rule may have at a time.
	Groups int
	// Items is how many matches, or values, of one group are kept.
	Items int
	// Bytes is how much memory all groups of all rules may take together, with the
	// events that they keep; half as much may wait for others.
	Bytes int
	// Lateness is how much later than others a match may come in.
	Lateness time.Duration
	// Pending is how many matches may wait for others. Beyond it the oldest are
	// taken in as if nothing came late.
	Pending int
	// Workers is how many goroutines share the work of a large batch.
	Workers int
}

// DefaultLimits suit a host of a few hundred VMs.
var DefaultLimits = Limits{Groups: 16384, Items: 4096, Bytes: 128 << 20, Lateness: 500 * time.Microsecond, Pending: 65536, Workers: 1}

// Match is a match of a detection rule.
type Match struct {
	Rule  int // index in the set
	Kind  record.Kind
	Event *event.Event // kept while it can contribute to a finding
}

// Finding says that a correlation rule holds.
type Finding struct {
	Rule int
	Time int64 // of the last match, or of the end of the timespan
	// Group are the values of the group-by fields.
	Group []string
	// Count is what the condition was compared with.
	Count float64
	// Values are those that a percentile holds for.
	Values []string
	// Acts are contributing events in the order of their times; of very many,
	// the latest.
	Acts []*event.Event

	kind  record.Kind // of the last act
	order order
}

// Stats count what a correlator did.
type Stats struct {
	Matches  uint64 // taken in
	Late     uint64 // of these, after their time had been passed
	Groups   uint64 // held now
	Evicted  uint64 // groups pushed out by others
	Dropped  uint64 // matches or values that a group had no room for
	Ungroups uint64 // matches without a value to group by
}

// Correlator evaluates the correlation rules of a set. It is not safe for
// concurrent use.
type Correlator struct {
	limits  Limits
	rules   []*rule
	levels  [][]*rule      // rules by how long the chain below them is
	users   map[int][]*use // by rule: who correlates its matches
	pending heap[item]     // what may still have something before it
	waiting int            // bytes of what is pending
	latest  int64          // time of the latest match
	passed  int64          // all up to here has been taken in
	parts   [partitions]*partition
	swept   int // the partition that was last swept
	batch   []item
	stats   Stats
}

// partitions divide the groups in a way that does not depend on how many
// workers there are, so that what is pushed out does not either.
const partitions = 16

// order is where something stands among all matches and findings.
type order struct {
	time int64
	vm   string
	seq  uint64
	rule int
}

func (a order) compare(b order) int {
	return cmp.Or(cmp.Compare(a.time, b.time), cmp.Compare(a.vm, b.vm), cmp.Compare(a.seq, b.seq), cmp.Compare(a.rule, b.rule))
}

// item is a match of a detection or a finding of a correlation, as an input of
// other correlations.
type item struct {
	order order
	kind  record.Kind
	event *event.Event
	acts  []*event.Event // of a finding
	bytes int            // that it takes with its events
}

// itemSize is what an item takes besides its events.
const itemSize = 128

// New makes a correlator for the correlation rules of a set that are of the
// specification's types, and that include says yes to by their index, if it is
// not nil. Others are passed by.
func New(set *sigma.Set, limits Limits, include func(rule int) bool) (*Correlator, error) {
	limits.Groups, limits.Items = max(limits.Groups, partitions), max(limits.Items, 16)
	limits.Pending, limits.Workers = max(limits.Pending, 1), max(limits.Workers, 1)
	c := &Correlator{limits: limits, users: make(map[int][]*use), passed: -1 << 63, latest: -1 << 63}
	c.pending.less = func(a, b item) bool { return a.order.compare(b.order) < 0 }
	index := make(map[*sigma.Rule]int)
	depth := make(map[int]int)
	for i, r := range set.Rules {
		index[r] = i
		if r.Correlation == nil || r.Correlation.Extra != nil || include != nil && !include(i) {
			continue
		}
		ru, err := c.compile(i, r, set.Refs[r])
		if err != nil {
			return nil, err
		}
		for pos, ref := range set.Refs[r] {
			n := index[ref]
			depth[i] = max(depth[i], depth[n]+1)
			c.users[n] = append(c.users[n], &use{ru, pos})
		}
		for len(c.levels) < depth[i] {
			c.levels = append(c.levels, nil)
		}
		ru.level = depth[i] - 1
		c.levels[ru.level] = append(c.levels[ru.level], ru)
		c.rules = append(c.rules, ru)
	}
	for i := range c.parts {
		c.parts[i] = newPartition(c)
	}
	return c, nil
}

// use is a place of a rule in a correlation.
type use struct {
	rule *rule
	pos  int
}

// Uses says whether matches of a rule are correlated at all.
func (c *Correlator) Uses(rule int) bool { return len(c.users[rule]) > 0 }

// Add takes in a match, to be looked at by Advance.
func (c *Correlator) Add(m Match) {
	c.stats.Matches++
	o := order{m.Event.Time, m.Event.VM, m.Event.Seq, m.Rule}
	if o.time <= c.passed {
		c.stats.Late++
		o.time = c.passed + 1
	}
	c.latest = max(c.latest, m.Event.Time)
	it := item{order: o, kind: m.Kind, event: m.Event, bytes: itemSize + m.Event.Bytes()}
	c.waiting += it.bytes
	c.pending.push(it)
}

// Advance looks at all matches that nothing can come before any more, now that
// the time is now or later, and gives what follows, in order.
func (c *Correlator) Advance(now int64) []Finding {
	until := max(now, c.latest) - int64(c.limits.Lateness)
	if len(c.pending.list) > c.limits.Pending || c.waiting > c.limits.Bytes/2 {
		until = c.latest
	}
	if until <= c.passed {
		return nil
	}
	batch := c.batch[:0]
	for len(c.pending.list) > 0 && c.pending.list[0].order.time <= until {
		it := c.pending.pop()
		c.waiting -= it.bytes
		batch = append(batch, it)
	}
	out := c.process(batch, until)
	clear(c.batch) // keep no event alive
	return out
}

// Flush looks at all matches that were taken in, as if none came any more.
func (c *Correlator) Flush() []Finding {
	return c.Advance(c.latest + int64(c.limits.Lateness))
}

// Next is when Advance has something to do at the latest, if nothing is added;
// ok is false where there is nothing to wait for.
func (c *Correlator) Next() (at int64, ok bool) {
	at = 1<<63 - 1
	if len(c.pending.list) > 0 {
		at, ok = c.pending.list[0].order.time+int64(c.limits.Lateness), true
	}
	for _, p := range c.parts {
		for _, ends := range p.closings {
			if len(ends.list) > 0 {
				at, ok = min(at, ends.list[0].at+int64(c.limits.Lateness)), true
			}
		}
	}
	return at, ok
}

// process runs a batch through all levels.
func (c *Correlator) process(batch []item, until int64) []Finding {
	var out []Finding
	for level := range c.levels {
		for _, it := range batch {
			for _, u := range c.users[it.order.rule] {
				if u.rule.level == level {
					c.route(u, it)
				}
			}
		}
		found := c.run(level, until, len(batch))
		if len(found) == 0 {
			continue
		}
		for _, f := range found {
			batch = append(batch, f.item())
		}
		slices.SortStableFunc(batch, func(a, b item) int { return a.order.compare(b.order) })
		out = append(out, found...)
	}
	c.batch = batch
	c.passed = until
	// Groups that are over do no harm but take memory: one partition at a time.
	c.swept = (c.swept + 1) % partitions
	c.parts[c.swept].sweep(until)
	slices.SortStableFunc(out, func(a, b Finding) int { return a.order.compare(b.order) })
	return out
}

// route hands a match to the partition of its group.
func (c *Correlator) route(u *use, it item) {
	key, ok := u.rule.key(u.pos, it)
	if !ok {
		c.stats.Ungroups++
		return
	}
	p := c.parts[hash(key)%partitions]
	p.inputs = append(p.inputs, input{u, key, it})
}

// few is how many matches are not worth waking other goroutines for.
const few = 512

// run has all partitions take in their inputs of one level.
func (c *Correlator) run(level int, until int64, n int) []Finding {
	if c.limits.Workers == 1 || n < few {
		for _, p := range c.parts {
			p.run(level, until)
		}
	} else {
		var wg sync.WaitGroup
		for w := range c.limits.Workers {
			wg.Go(func() {
				for i := w; i < partitions; i += c.limits.Workers {
					c.parts[i].run(level, until)
				}
			})
		}
		wg.Wait()
	}
	var found []Finding
	for _, p := range c.parts {
		found = append(found, p.found...)
		p.found = p.found[:0]
	}
	// In an order that tells nothing of partitions.
	slices.SortFunc(found, func(a, b Finding) int {
		return cmp.Or(a.order.compare(b.order), slices.Compare(a.Group, b.Group))
	})
	return found
}

// item is a finding as a match for others.
func (f *Finding) item() item {
	it := item{order: f.order, kind: f.kind, event: f.Acts[len(f.Acts)-1], acts: f.Acts, bytes: itemSize}
	for _, a := range f.Acts {
		it.bytes += 8 + a.Bytes()
	}
	return it
}

// Stats gives the counts so far.
func (c *Correlator) Stats() Stats {
	s := c.stats
	for _, p := range c.parts {
		s.Evicted += p.evicted
		s.Dropped += p.dropped
		for _, t := range p.tables {
			s.Groups += uint64(len(t.groups))
		}
	}
	return s
}
