package correlate

import (
	"container/list"

	"warder/secmon/event"
	"warder/secmon/pattern/record"
)

// partition is a share of the groups of all rules. One goroutine at a time uses
// it.
type partition struct {
	limits   Limits
	tables   map[*rule]*table
	used     *list.List // of *group, of all rules, the one with the latest match first
	weight   int        // of all groups, in bytes
	inputs   []input
	closings []heap[closing] // ends of timespans, by level
	found    []Finding

	evicted, dropped uint64
	furthest         map[*rule]Progress // if traced
}

// table is the groups of one rule in one partition.
type table struct {
	groups map[string]*group
	recent *list.List // of *group, the one with the latest match first
}

// input is a match on its way to a group.
type input struct {
	use  *use
	key  string
	item item
}

// closing is the end of a group's timespan.
type closing struct {
	at    int64
	group *group
}

func newPartition(c *Correlator) *partition {
	p := &partition{limits: c.limits, tables: make(map[*rule]*table), used: list.New()}
	p.limits.Groups = max(1, c.limits.Groups/partitions)
	for range c.levels {
		p.closings = append(p.closings, heap[closing]{less: func(a, b closing) bool { return a.at < b.at }})
	}
	p.limits.Bytes = max(1, c.limits.Bytes/partitions)
	for _, r := range c.rules {
		p.tables[r] = &table{groups: make(map[string]*group), recent: list.New()}
	}
	return p
}

// run takes in what was routed here for one level, up to a time.
func (p *partition) run(level int, until int64) {
	for _, in := range p.inputs {
		p.closeUntil(level, in.item.order.time-1)
		p.add(in)
	}
	clear(p.inputs)
	p.inputs = p.inputs[:0]
	p.closeUntil(level, until)
}

// sweep forgets the groups of all rules in which nothing can follow any more.
func (p *partition) sweep(until int64) {
	for r, t := range p.tables {
		p.expire(r, t, until)
	}
}

// expire forgets the groups in which nothing can follow any more.
func (p *partition) expire(r *rule, t *table, until int64) {
	if r.atEnd {
		return // their end is still to come
	}
	for e := t.recent.Back(); e != nil; e = t.recent.Back() {
		g := e.Value.(*group)
		if g.last+r.span >= until {
			return
		}
		p.note(g, true)
		p.drop(g)
	}
}

// add gives a match to its group.
func (p *partition) add(in input) {
	r := in.use.rule
	t := p.tables[r]
	g := t.groups[in.key]
	if g == nil {
		for len(t.groups) >= p.limits.Groups {
			p.drop(t.recent.Back().Value.(*group))
			p.evicted++
		}
		g = &group{rule: r, key: in.key, opened: in.item.order.time}
		g.seen, g.used = t.recent.PushFront(g), p.used.PushFront(g)
		t.groups[in.key] = g
		if r.atEnd {
			p.closings[r.level].push(closing{g.opened + r.span, g})
		}
	} else {
		t.recent.MoveToFront(g.seen)
		p.used.MoveToFront(g.used)
	}
	g.last = in.item.order.time
	g.dropped = 0
	count, done := g.add(in.use.pos, in.item, p.limits.Items)
	p.dropped += g.dropped
	if done {
		p.find(g, in.item.order, count, nil)
		p.drop(g)
		return
	}
	p.weight -= g.weight
	g.weight = g.size()
	p.weight += g.weight
	for p.weight > p.limits.Bytes { // g itself goes last
		p.drop(p.used.Back().Value.(*group))
		p.evicted++
	}
}

// find notes a finding of a group.
func (p *partition) find(g *group, at order, count float64, values []string) {
	acts, kind := g.acts()
	if len(acts) == 0 {
		return
	}
	at.rule = g.rule.index
	p.found = append(p.found, Finding{
		Rule: g.rule.index, Time: at.time, Group: split(g.key, len(g.rule.source.GroupBy)),
		Count: count, Values: values, Acts: acts, kind: kind, order: at,
	})
}

func (p *partition) drop(g *group) {
	t := p.tables[g.rule]
	delete(t.groups, g.key)
	t.recent.Remove(g.seen)
	p.used.Remove(g.used)
	p.weight -= g.weight
	g.gone = true
}

// closeUntil looks at the groups of a level whose timespan is over.
func (p *partition) closeUntil(level int, until int64) {
	ends := &p.closings[level]
	for len(ends.list) > 0 && ends.list[0].at <= until {
		c := ends.pop()
		g := c.group
		if g.gone {
			continue
		}
		if count, values, ok := g.end(); ok {
			last := g.latest[len(g.latest)-1].order
			p.find(g, order{time: c.at, vm: last.vm, seq: last.seq}, count, values)
		}
		p.drop(g)
	}
}

// maxActs is how many events a finding names.
const maxActs = 64

// collect gives the events of items, the latest where there are too many, in
// order, each once.
func collect(items []item) (acts []*event.Event, kind record.Kind) {
	seen := make(map[*event.Event]bool)
	for _, it := range items {
		all := it.acts
		if all == nil {
			all = []*event.Event{it.event}
		}
		for _, e := range all {
			if e != nil && !seen[e] {
				seen[e] = true
				acts = append(acts, e)
			}
		}
		kind = it.kind
	}
	return acts[max(0, len(acts)-maxActs):], kind
}
