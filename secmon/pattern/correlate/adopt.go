package correlate

// Adopt takes over what is under way in another correlator for rules that are
// the same here: same gives the index there by the index here. The other must
// not be used any more.
func (c *Correlator) Adopt(old *Correlator, same map[int]int) {
	here := make(map[int]int, len(same))
	for i, j := range same {
		here[j] = i
	}
	c.latest, c.passed, c.stats = old.latest, old.passed, old.stats
	for _, it := range old.pending.list {
		if i, ok := here[it.order.rule]; ok && c.Uses(i) {
			it.order.rule = i
			c.waiting += it.bytes
			c.pending.push(it)
		}
	}
	rules := make(map[*rule]*rule)
	byIndex := make(map[int]*rule)
	for _, r := range c.rules {
		byIndex[r.index] = r
	}
	for _, r := range old.rules {
		if i, ok := here[r.index]; ok && byIndex[i] != nil {
			rules[r] = byIndex[i]
		}
	}
	for i, p := range c.parts {
		p.adopt(old.parts[i], rules)
	}
}

func (p *partition) adopt(old *partition, rules map[*rule]*rule) {
	p.evicted, p.dropped = old.evicted, old.dropped
	for e := old.used.Back(); e != nil; e = e.Prev() {
		g := e.Value.(*group)
		r := rules[g.rule]
		if r == nil {
			continue
		}
		g.rule = r
		t := p.tables[r]
		t.groups[g.key] = g
		g.seen, g.used = t.recent.PushFront(g), p.used.PushFront(g)
		p.weight += g.weight
		if r.atEnd {
			p.closings[r.level].push(closing{g.opened + r.span, g})
		}
	}
}
