package correlate

import (
	"cmp"
	"container/list"
	"maps"
	"slices"

	"warder/secmon/event"
	"warder/secmon/pattern/record"
	"warder/secmon/pattern/sigma"
)

// group is what is known of the matches of one rule that belong together.
type group struct {
	rule   *rule
	key    string
	seen   *list.Element // in the list of the table
	used   *list.Element // in that of the partition
	weight int           // its size in bytes when last looked at
	gone   bool
	opened int64 // time of the first match
	last   int64 // of the latest

	// latest are matches that a finding would name, in order. For a sliding
	// count they are those within the timespan that count.
	latest  []item
	times   []int64            // sliding counts: of all matches that count
	numbers []float64          // sliding sums: of latest's matches
	byValue map[string]float64 // values: how often, or when last (sliding)
	values  int                // bytes of byValue's keys
	order   []string           // sliding value counts: values by when last
	byPos   []item             // temporal: the latest match by rule
	chains  [][]*link          // temporal_ordered: the last of a run, by rule and length
	count   float64
	sum     float64
	dropped uint64
}

// link is the last match of a run of matches in the order of the rules.
type link struct {
	start int64 // time of the first
	item  item
	prev  *link
	bytes int // with all before it, which other runs may share
}

// add takes in a match. done says that the rule's condition now holds, and with
// what count.
func (g *group) add(pos int, it item, room int) (count float64, done bool) {
	if g.rule.atEnd {
		g.gather(pos, it, room)
		return 0, false
	}
	switch g.rule.source.Type {
	case sigma.EventCount:
		return g.slideCount(it)
	case sigma.ValueCount:
		return g.slideValues(pos, it)
	case sigma.ValueSum:
		return g.slideSum(pos, it, room)
	case sigma.Temporal:
		return g.together(pos, it)
	default:
		return g.inOrder(pos, it)
	}
}

// remember keeps a match to name it in a finding.
func (g *group) remember(it item) {
	if len(g.latest) == maxActs {
		copy(g.latest, g.latest[1:])
		g.latest = g.latest[:maxActs-1]
	}
	g.latest = append(g.latest, it)
}

// slideCount counts the matches of the timespan that ends here. No more than
// are enough need be kept.
func (g *group) slideCount(it item) (float64, bool) {
	enough := int(max(g.rule.least, 1))
	if len(g.times) == enough {
		g.times = append(g.times[:0], g.times[1:]...)
	}
	g.times = append(g.times, it.order.time)
	g.remember(it)
	n := 0
	for _, t := range g.times {
		if it.order.time-t <= g.rule.span {
			n++
		}
	}
	g.times = g.times[len(g.times)-n:]
	g.latest = g.latest[max(0, len(g.latest)-n):]
	return float64(n), n >= enough
}

// slideValues counts the distinct values of the timespan that ends here; of
// each only its latest match counts.
func (g *group) slideValues(pos int, it item) (float64, bool) {
	v, ok := g.rule.value(pos, it)
	if !ok {
		return 0, false
	}
	if g.byValue == nil {
		g.byValue = make(map[string]float64)
	}
	if _, known := g.byValue[v]; known {
		i := slices.Index(g.order, v)
		g.order = slices.Delete(g.order, i, i+1)
		g.latest = slices.Delete(g.latest, i, i+1)
		g.times = slices.Delete(g.times, i, i+1)
	} else {
		g.values += len(v)
	}
	g.byValue[v] = 0
	g.order = append(g.order, v)
	g.latest = append(g.latest, it)
	g.times = append(g.times, it.order.time)
	old := 0
	for it.order.time-g.times[old] > g.rule.span {
		delete(g.byValue, g.order[old])
		g.values -= len(g.order[old])
		old++
	}
	g.order, g.latest, g.times = g.order[old:], g.latest[old:], g.times[old:]
	return float64(len(g.order)), len(g.order) >= int(max(g.rule.least, 1))
}

// slideSum adds up the values of the timespan that ends here.
func (g *group) slideSum(pos int, it item, room int) (float64, bool) {
	v, ok := g.rule.number(pos, it)
	if !ok {
		return 0, false
	}
	g.latest, g.numbers = append(g.latest, it), append(g.numbers, v)
	g.sum += v
	old := 0
	for it.order.time-g.latest[old].order.time > g.rule.span {
		old++
	}
	if len(g.latest)-old > room {
		old++
		g.dropped++
	}
	for _, n := range g.numbers[:old] {
		g.sum -= n
	}
	g.latest, g.numbers = g.latest[old:], g.numbers[old:]
	return g.sum, sigma.Hold(g.rule.source.Condition, g.sum)
}

// together counts the rules that matched within the timespan that ends here.
func (g *group) together(pos int, it item) (float64, bool) {
	if g.byPos == nil {
		g.byPos = make([]item, len(g.rule.group))
	}
	g.byPos[pos] = it
	n := 0
	for i := range g.byPos {
		if g.byPos[i].event != nil && it.order.time-g.byPos[i].order.time <= g.rule.span {
			n++
		} else {
			g.byPos[i] = item{}
		}
	}
	return float64(n), n >= int(max(g.rule.least, 1))
}

// inOrder follows the longest runs of matches in the order of the rules. Of the
// runs of one length that end at one rule the one that started last is enough,
// for it lasts longest.
func (g *group) inOrder(pos int, it item) (float64, bool) {
	if g.chains == nil {
		g.chains = make([][]*link, len(g.rule.group))
		for i := range g.chains {
			g.chains[i] = make([]*link, i+2) // by length, from 1
		}
	}
	best := 0
	for length := pos + 1; length >= 1; length-- {
		next := &link{start: it.order.time, item: it, bytes: linkSize + it.bytes}
		if length > 1 {
			if next.prev = g.run(pos, length-1, it); next.prev == nil {
				continue
			}
			next.start = next.prev.start
			next.bytes += next.prev.bytes
		}
		if old := g.chains[pos][length]; old == nil || next.start >= old.start {
			g.chains[pos][length] = next
		}
		best = max(best, length)
	}
	if best < int(max(g.rule.least, 1)) {
		return float64(best), false
	}
	g.latest = g.chains[pos][best].items()
	return float64(best), true
}

// items are the matches of a run.
func (l *link) items() (items []item) {
	for ; l != nil; l = l.prev {
		items = append(items, l.item)
	}
	slices.Reverse(items)
	return items
}

// run is the run of a length that ends before a rule, is not over, and started
// last; nil where there is none.
func (g *group) run(pos, length int, it item) (best *link) {
	for i := length - 1; i < pos; i++ {
		l := g.chains[i][length]
		if l == nil || it.order.time-l.start > g.rule.span || l.item.event == it.event {
			continue
		}
		if best == nil || l.start > best.start {
			best = l
		}
	}
	return best
}

// What parts of a group take besides what they point to, in bytes.
const (
	groupSize = 512
	valueSize = 64
	linkSize  = 160
)

// size is how much memory the group takes with its events, in bytes.
func (g *group) size() int {
	n := groupSize + 2*len(g.key) + 8*(len(g.times)+len(g.numbers)) + valueSize*len(g.byValue) + g.values
	for i := range g.latest {
		n += g.latest[i].bytes
	}
	for i := range g.byPos {
		n += g.byPos[i].bytes
	}
	for _, byLength := range g.chains {
		for _, l := range byLength {
			if l != nil {
				n += l.bytes
			}
		}
	}
	return n
}

// gather collects for the end of the timespan.
func (g *group) gather(pos int, it item, room int) {
	switch g.rule.source.Type {
	case sigma.Temporal:
		g.setValue(string(rune('0'+pos)), room)
	case sigma.ValueCount, sigma.ValuePercentile:
		v, ok := g.rule.value(pos, it)
		if !ok {
			return
		}
		g.setValue(v, room)
	case sigma.ValueSum, sigma.ValueAvg:
		v, ok := g.rule.number(pos, it)
		if !ok {
			return
		}
		g.sum += v
	}
	g.count++
	g.remember(it)
}

func (g *group) setValue(v string, room int) {
	if g.byValue == nil {
		g.byValue = make(map[string]float64)
	}
	if _, known := g.byValue[v]; !known && len(g.byValue) == room {
		g.dropped++
		return
	}
	if g.byValue[v]++; g.byValue[v] == 1 {
		g.values += len(v)
	}
}

// end looks at the condition when the timespan is over.
func (g *group) end() (count float64, values []string, ok bool) {
	if g.count == 0 {
		return 0, nil, false
	}
	bounds := g.rule.source.Condition
	switch g.rule.source.Type {
	case sigma.EventCount:
		count = g.count
	case sigma.ValueCount, sigma.Temporal:
		count = float64(len(g.byValue))
	case sigma.ValueSum:
		count = g.sum
	case sigma.ValueAvg:
		count = g.sum / g.count
	case sigma.ValuePercentile:
		for _, v := range slices.Sorted(maps.Keys(g.byValue)) {
			share := 100 * g.byValue[v] / g.count
			if sigma.Hold(bounds, share) {
				values = append(values, separated.Replace(v))
				count = cmp.Or(count, share)
			}
		}
		return count, values, len(values) > 0
	}
	return count, nil, sigma.Hold(bounds, count)
}

// acts are the events of a finding.
func (g *group) acts() ([]*event.Event, record.Kind) {
	if g.byPos != nil {
		var items []item
		for _, it := range g.byPos {
			if it.event != nil {
				items = append(items, it)
			}
		}
		slices.SortFunc(items, func(a, b item) int { return a.order.compare(b.order) })
		return collect(items)
	}
	if g.chains != nil && g.latest == nil {
		for _, byLength := range g.chains { // of a run that is not finished, the longest
			for length := len(byLength) - 1; length > len(g.latest); length-- {
				if l := byLength[length]; l != nil {
					g.latest = l.items()
				}
			}
		}
	}
	return collect(g.latest)
}
