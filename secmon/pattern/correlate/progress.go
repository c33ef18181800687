package correlate

import (
	"fmt"
	"strings"

	"warder/secmon/event"
	"warder/secmon/pattern/sigma"
)

// Progress is how far one group of a rule got.
type Progress struct {
	Rule  int
	Group []string
	// Count is what the condition compares, Enough what it would need where that
	// is a number.
	Count, Enough float64
	// Missing are positions of rules that did not match in time, of a temporal
	// correlation.
	Missing []int
	Acts    []*event.Event
	// Over says that the group was given up since nothing came within the
	// timespan.
	Over bool
}

// String says it in words, without the acts.
func (p Progress) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%v", p.Count)
	if p.Enough > 0 {
		fmt.Fprintf(&b, " of %v", p.Enough)
	}
	if len(p.Group) > 0 {
		fmt.Fprintf(&b, " for %s", strings.Join(p.Group, ", "))
	}
	if p.Over {
		b.WriteString(", then nothing within the timespan")
	}
	return b.String()
}

// Trace has the correlator remember, from now on, the furthest that any group of
// each rule got.
func (c *Correlator) Trace() {
	for _, p := range c.parts {
		p.furthest = make(map[*rule]Progress)
	}
}

// Furthest gives, by rule, the furthest that any group got that did not become a
// finding. It needs Trace.
func (c *Correlator) Furthest() map[int]Progress {
	best := make(map[int]Progress)
	for _, p := range c.parts {
		for r, t := range p.tables {
			for _, g := range t.groups {
				p.note(g, false)
			}
			if f, ok := p.furthest[r]; ok && (len(best[r.index].Acts) == 0 || f.Count > best[r.index].Count) {
				best[r.index] = f
			}
		}
	}
	return best
}

// note remembers a group if it is the furthest of its rule.
func (p *partition) note(g *group, over bool) {
	if p.furthest == nil {
		return
	}
	f := Progress{Rule: g.rule.index, Group: split(g.key, len(g.rule.source.GroupBy)), Count: g.progress(), Enough: g.rule.least, Over: over}
	if old, ok := p.furthest[g.rule]; ok && old.Count >= f.Count {
		return
	}
	f.Acts, _ = g.acts()
	for pos := range g.rule.group {
		if g.byPos != nil && g.byPos[pos].event == nil || g.chains != nil && g.chains[pos][1] == nil {
			f.Missing = append(f.Missing, pos)
		}
	}
	p.furthest[g.rule] = f
}

// progress is what the condition would compare now.
func (g *group) progress() float64 {
	switch {
	case g.chains != nil:
		best := 0
		for _, byLength := range g.chains {
			for length, l := range byLength {
				if l != nil && length > best {
					best = length
				}
			}
		}
		return float64(best)
	case g.byPos != nil:
		n := 0
		for _, it := range g.byPos {
			if it.event != nil {
				n++
			}
		}
		return float64(n)
	case g.rule.source.Type == sigma.ValueSum && !g.rule.atEnd:
		return g.sum
	case g.rule.source.Type == sigma.EventCount && !g.rule.atEnd:
		return float64(len(g.times))
	case len(g.order) > 0:
		return float64(len(g.order))
	}
	count, _, _ := g.end()
	return count
}
