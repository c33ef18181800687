package correlate

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"warder/secmon/event"
	"warder/secmon/pattern/record"
	"warder/secmon/pattern/sigma"
)

// base are the rules a, b and c, which correlations of the tests refer to.
const base = `
title: a
name: a
logsource: {product: warder, service: file}
detection: {s: {event.action: a}, condition: s}
---
title: b
name: b
logsource: {product: warder, service: file}
detection: {s: {event.action: b}, condition: s}
---
title: c
name: c
logsource: {product: warder, service: file}
detection: {s: {event.action: c}, condition: s}
`

func linked(t testing.TB, correlations ...string) *sigma.Set {
	t.Helper()
	text := base
	for i, c := range correlations {
		text += fmt.Sprintf("---\ntitle: top%d\nname: top%d\ncorrelation: {%s}\n", i, i, c)
	}
	rules, err := sigma.Parse("test.yml", []byte(text), sigma.Options{})
	if err != nil {
		t.Fatal(err)
	}
	set, err := sigma.Link(rules)
	if err != nil {
		t.Fatal(err)
	}
	return set
}

func newCorrelator(t testing.TB, set *sigma.Set, limits Limits) *Correlator {
	t.Helper()
	c, err := New(set, limits, nil)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// script makes events of words: TIME(seconds) RULE [VM [PATH [SIZE]]].
func script(t testing.TB, set *sigma.Set, text string) []Match {
	t.Helper()
	var out []Match
	for i, line := range strings.Split(text, ";") {
		var at int64
		var rule, vm, path string
		var size uint64
		if n, _ := fmt.Sscan(line, &at, &rule, &vm, &path, &size); n < 2 {
			t.Fatalf("%q: give a time and a rule", line)
		}
		e := &event.Event{
			Time: at * 1e9, Seq: uint64(i + 1), VM: vm, Kind: event.FileAct, Action: rule,
			Call: event.Call{File: event.File{Path: path, Inode: size}},
		}
		n := slices.IndexFunc(set.Rules, func(r *sigma.Rule) bool { return r.Name == rule })
		out = append(out, Match{n, record.Native, e})
	}
	return out
}

// tell gives findings as words: TIME(seconds) RULE [GROUP] COUNT ACTS(seconds).
func tell(set *sigma.Set, found []Finding) string {
	var out []string
	for _, f := range found {
		var acts []string
		for _, a := range f.Acts {
			acts = append(acts, fmt.Sprint(a.Time/1e9))
		}
		s := fmt.Sprintf("%d %s %v %v (%s)", f.Time/1e9, set.Rules[f.Rule].Name, f.Group, f.Count, strings.Join(acts, " "))
		if f.Values != nil {
			s += fmt.Sprintf(" %v", f.Values)
		}
		out = append(out, s)
	}
	return strings.Join(out, "; ")
}

// short are limits without lateness, so that each match is looked at once.
var short = Limits{Groups: 1024, Items: 256, Bytes: 64 << 20, Pending: 1 << 16}

func TestTypes(t *testing.T) {
	for _, c := range []struct{ name, rule, in, want string }{
		{
			"count", "type: event_count, rules: [a], group-by: [vm], timespan: 10s, condition: {gte: 3}",
			"1 a x; 2 a y; 3 a x; 12 a x; 13 a x; 14 a x; 15 a x; 16 a x; 30 a x",
			"13 top0 [x] 3 (3 12 13); 16 top0 [x] 3 (14 15 16)",
		},
		{
			"count of several rules", "type: event_count, rules: [a, b], timespan: 10s, condition: {gt: 2}",
			"1 a x; 2 b y; 3 c x; 4 b z", "4 top0 [] 3 (1 2 4)",
		},
		{
			"few", "type: event_count, rules: [a], group-by: [vm], timespan: 10s, condition: {lt: 3}",
			"1 a x; 2 a x; 3 a y; 4 a y; 5 a y; 20 a z; 40 b z", "11 top0 [x] 2 (1 2); 30 top0 [z] 1 (20)",
		},
		{
			"range", "type: event_count, rules: [a], timespan: 10s, condition: {gt: 1, lte: 3}",
			"1 a x; 2 a x; 3 a x; 4 a x; 20 a x; 21 a x; 40 b x", "30 top0 [] 2 (20 21)",
		},
		{
			"values", "type: value_count, rules: [a], group-by: [file.path], timespan: 10s, condition: {field: vm, gte: 3}",
			"1 a x /p; 2 a y /p; 3 a x /p; 4 a z /q; 11 a z /p; 12 a w /q; 13 a v /p; 14 a x /p",
			"11 top0 [/p] 3 (2 3 11)",
		},
		{
			"values of two fields", "type: value_count, rules: [a], timespan: 10s, condition: {field: [vm, file.path], gte: 3}",
			"1 a x /p; 2 a x /p; 3 a x /q; 4 a y /p", "4 top0 [] 3 (2 3 4)",
		},
		{
			"few values", "type: value_count, rules: [a], timespan: 10s, condition: {field: vm, lte: 1}",
			"1 a x; 2 a x; 20 a x; 21 a y; 40 b x", "11 top0 [] 1 (1 2)",
		},
		{
			"sum", "type: value_sum, rules: [a], group-by: [vm], timespan: 10s, condition: {field: file.inode, gte: 100}",
			"1 a x /p 60; 12 a x /p 60; 13 a x /p 39; 14 a x /p 1; 15 a x /p 99", "14 top0 [x] 100 (12 13 14)",
		},
		{
			"average", "type: value_avg, rules: [a], timespan: 10s, condition: {field: file.inode, gt: 5}",
			"1 a x /p 100; 2 a x /p 2; 20 a x /p 1; 40 a x /p 1; 60 b x", "11 top0 [] 51 (1 2)",
		},
		{
			"percentile", "type: value_percentile, rules: [a], timespan: 100s, condition: {field: file.path, lte: 20}",
			"1 a x /p; 2 a x /p; 3 a x /p; 4 a x /p; 5 a x /q; 200 b x", "101 top0 [] 20 (1 2 3 4 5) [/q]",
		},
		{
			"together", "type: temporal, rules: [a, b, c], group-by: [vm], timespan: 10s",
			"1 c x; 5 b x; 12 a x; 13 c y; 14 c x; 15 a x", "14 top0 [x] 3 (5 12 14)",
		},
		{
			"two of three", "type: temporal, rules: [a, b, c], timespan: 10s, condition: {gte: 2}",
			"1 c x; 2 c x; 3 a x; 4 b x", "3 top0 [] 2 (2 3)",
		},
		{
			"in order", "type: temporal_ordered, rules: [a, b, c], timespan: 10s",
			"1 a x; 2 c x; 3 b x; 9 a x; 10 b x; 12 c x; 13 c x", "12 top0 [] 3 (9 10 12)",
		},
		{
			"in order, an old start", "type: temporal_ordered, rules: [a, b], timespan: 10s",
			"1 a x; 5 a y; 12 b x; 13 b x", "12 top0 [] 2 (5 12)",
		},
		{
			"two in order", "type: temporal_ordered, rules: [a, b, c], timespan: 10s, condition: {gte: 2}",
			"1 b x; 2 a x; 3 c x", "3 top0 [] 2 (2 3)",
		},
		{
			"aliases", "type: temporal, rules: [a, b], group-by: [who], timespan: 10s, aliases: {who: {a: vm, b: file.path}}",
			"1 a x /p; 2 b y /q; 3 b y x", "3 top0 [x] 2 (1 3)",
		},
		{
			"no group", "type: event_count, rules: [a], group-by: [file.path], timespan: 10s, condition: {gte: 2}",
			"1 a x; 2 a x; 3 a x /p; 4 a y /p", "4 top0 [/p] 2 (3 4)",
		},
	} {
		set := linked(t, c.rule)
		for _, text := range []string{c.in} {
			k := newCorrelator(t, set, short)
			var found []Finding
			for _, m := range script(t, set, text) {
				k.Add(m)
				found = append(found, k.Advance(m.Event.Time)...)
			}
			found = append(found, k.Flush()...)
			if got := tell(set, found); got != c.want {
				t.Errorf("%s:\ngot  %s\nwant %s", c.name, got, c.want)
			}
		}
	}
}

// A correlation can be of correlations; its acts are all of theirs.
func TestChains(t *testing.T) {
	set := linked(t,
		"type: event_count, rules: [a], group-by: [vm], timespan: 10s, condition: {gte: 2}",
		"type: temporal_ordered, rules: [top0, b], group-by: [file.path], timespan: 10s",
		"type: value_count, rules: [top1], timespan: 100s, condition: {field: file.path, gte: 2}",
	)
	k := newCorrelator(t, set, short)
	for _, m := range script(t, set, "1 a x /p; 2 a x /p; 3 b y /q; 4 b y /p; 10 a z /q; 11 a z /q; 12 b z /q; 13 b z /q") {
		k.Add(m)
	}
	want := "2 top0 [x] 2 (1 2); 4 top1 [/p] 2 (1 2 4); 11 top0 [z] 2 (10 11); 12 top1 [/q] 2 (10 11 12); 12 top2 [] 2 (1 2 4 10 11 12)"
	if got := tell(set, k.Flush()); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

var mixed = []string{
	"type: event_count, rules: [a, b], group-by: [vm], timespan: 5s, condition: {gte: 3}",
	"type: value_count, rules: [a], group-by: [file.path], timespan: 7s, condition: {field: vm, gte: 2}",
	"type: value_sum, rules: [c], group-by: [vm], timespan: 9s, condition: {field: file.inode, gt: 20}",
	"type: temporal, rules: [a, b, c], group-by: [file.path], timespan: 4s",
	"type: temporal_ordered, rules: [a, b, c], timespan: 6s",
	"type: event_count, rules: [top0], timespan: 20s, condition: {gte: 2}",
	"type: event_count, rules: [b], group-by: [vm], timespan: 8s, condition: {lt: 3}",
	"type: value_avg, rules: [c], group-by: [vm], timespan: 8s, condition: {field: file.inode, gte: 5}",
	"type: value_percentile, rules: [a, b], timespan: 30s, condition: {field: file.path, lte: 10}",
	"type: temporal_ordered, rules: [top3, top0], timespan: 30s",
}

func randomMatches(rng *rand.Rand, set *sigma.Set, n, vms int) []Match {
	seqs := make(map[string]uint64)
	var out []Match
	at := int64(0)
	for range n {
		at += rng.Int64N(2e9)
		vm := fmt.Sprintf("vm%d", rng.IntN(vms))
		seqs[vm]++
		name := []string{"a", "b", "c"}[rng.IntN(3)]
		out = append(out, Match{
			slices.IndexFunc(set.Rules, func(r *sigma.Rule) bool { return r.Name == name }), record.Native,
			&event.Event{
				Time: at, Seq: seqs[vm], VM: vm, Kind: event.FileAct, Action: name,
				Call: event.Call{File: event.File{Path: fmt.Sprintf("/f%d", rng.IntN(4)), Inode: uint64(rng.IntN(12))}},
			},
		})
	}
	return out
}

// In whatever order matches come in within the lateness window, in whatever
// batches, on however many workers: the findings are the same.
func TestInterleavings(t *testing.T) {
	set := linked(t, mixed...)
	rng := rand.New(rand.NewPCG(9, 10))
	for range 5 {
		matches := randomMatches(rng, set, 2000, 5)
		var want string
		for try := range 6 {
			limits := short
			limits.Lateness = 3 * time.Second
			limits.Workers = []int{1, 8}[try%2]
			k := newCorrelator(t, set, limits)
			// Each comes in up to the window late, in the order of arrival.
			order := slices.Clone(matches)
			if try > 0 {
				arrival := make(map[*event.Event]int64)
				for _, m := range order {
					arrival[m.Event] = m.Event.Time + rng.Int64N(int64(limits.Lateness))
				}
				slices.SortStableFunc(order, func(a, b Match) int { return int(arrival[a.Event] - arrival[b.Event]) })
			}
			var found []Finding
			for i, m := range order {
				k.Add(m)
				if try < 4 || i%700 == 0 { // large batches too
					found = append(found, k.Advance(0)...)
				}
			}
			found = append(found, k.Flush()...)
			if late := k.Stats().Late; late != 0 {
				t.Fatalf("%d matches came too late", late)
			}
			got := tell(set, found)
			if want == "" {
				want = got
			}
			if d := cmp.Diff(strings.Split(want, "; "), strings.Split(got, "; ")); d != "" {
				t.Fatalf("try %d (-in order +as they came):\n%s", try, d)
			}
		}
		if strings.Count(want, ";") < 500 {
			t.Fatalf("too few findings to compare: %s", want)
		}
	}
}

// naive finds what sliding correlations without groups do, from all matches.
func naive(set *sigma.Set, rule int, matches []Match) (times []int64) {
	r := set.Rules[rule]
	c := r.Correlation
	var window []Match // since the last finding
	for _, m := range matches {
		pos := slices.IndexFunc(set.Refs[r], func(ref *sigma.Rule) bool { return ref == set.Rules[m.Rule] })
		if pos < 0 {
			continue
		}
		window = append(window, m)
		in := slices.DeleteFunc(slices.Clone(window), func(o Match) bool { return m.Event.Time-o.Event.Time > int64(c.Timespan) })
		if naiveHolds(set, r, in) {
			times = append(times, m.Event.Time)
			window = nil
		}
	}
	return times
}

func naiveHolds(set *sigma.Set, r *sigma.Rule, in []Match) bool {
	n := 0.0
	switch r.Correlation.Type {
	case sigma.EventCount:
		n = float64(len(in))
	case sigma.ValueCount:
		vms := make(map[string]bool)
		for _, m := range in {
			vms[m.Event.VM] = true
		}
		n = float64(len(vms))
	case sigma.ValueSum:
		for _, m := range in {
			n += float64(m.Event.Call.File.Inode)
		}
	case sigma.Temporal:
		rules := make(map[int]bool)
		for _, m := range in {
			rules[m.Rule] = true
		}
		n = float64(len(rules))
	case sigma.TemporalOrdered:
		// The longest subsequence in the order of the rules, by all pairs.
		best := make([]int, len(in))
		for i, m := range in {
			best[i] = 1
			for j := range i {
				before := slices.Index(set.Refs[r], set.Rules[in[j].Rule])
				if before < slices.Index(set.Refs[r], set.Rules[m.Rule]) {
					best[i] = max(best[i], best[j]+1)
				}
			}
			n = max(n, float64(best[i]))
		}
	}
	return sigma.Hold(r.Correlation.Condition, n)
}

func TestAgreesWithNaive(t *testing.T) {
	set := linked(t,
		"type: event_count, rules: [a, b], timespan: 5s, condition: {gte: 6}",
		"type: value_count, rules: [a, c], timespan: 7s, condition: {field: vm, gte: 4}",
		"type: value_sum, rules: [c], timespan: 9s, condition: {field: file.inode, gt: 20}",
		"type: temporal, rules: [a, b, c], timespan: 3s",
		"type: temporal_ordered, rules: [b, c, a], timespan: 4s",
		"type: temporal_ordered, rules: [c, b, a], timespan: 9s, condition: {gte: 2}",
	)
	rng := rand.New(rand.NewPCG(11, 12))
	total := 0
	for range rounds {
		matches := randomMatches(rng, set, 3000, 6)
		k := newCorrelator(t, set, short)
		for _, m := range matches {
			k.Add(m)
		}
		got := make(map[int][]int64)
		for _, f := range k.Flush() {
			got[f.Rule] = append(got[f.Rule], f.Time)
		}
		for i, r := range set.Rules {
			if r.Correlation == nil {
				continue
			}
			want := naive(set, i, matches)
			total += len(want)
			if d := cmp.Diff(want, got[i]); d != "" {
				t.Fatalf("%s (-naive +ours):\n%s", r.Correlation.Type, d)
			}
		}
	}
	if total < 1000 {
		t.Errorf("only %d findings were compared", total)
	}
}

// Memory stays within the limits whatever comes, and what is pushed out counts.
func TestBounds(t *testing.T) {
	set := linked(t, append(mixed, "type: event_count, rules: [a], group-by: [vm, file.path], timespan: 365d, condition: {gte: 200}")...)
	limits := Limits{Groups: 160, Items: 256, Bytes: 1 << 20, Pending: 1024, Lateness: time.Hour}
	k := newCorrelator(t, set, limits)
	rng := rand.New(rand.NewPCG(13, 14))
	arguments := strings.Repeat("a", 8192) // of which a guest chooses the length
	for i := range 50000 {
		k.Add(Match{0, record.Native, &event.Event{
			Time: int64(i) * 1e6, Seq: uint64(i), VM: fmt.Sprint(rng.IntN(10000)), Action: "a",
			Call: event.Call{File: event.File{Path: fmt.Sprint("/", i), Inode: 1}}, Process: event.Process{Args: arguments[:rng.IntN(len(arguments))]},
		}})
		k.Advance(0)
		if k.waiting > limits.Bytes/2 {
			t.Fatalf("%d bytes wait", k.waiting)
		}
	}
	weight, groups := 0, 0
	for _, p := range k.parts {
		weight += p.weight
		for _, tab := range p.tables {
			groups += len(tab.groups)
			if len(tab.groups) != tab.recent.Len() || len(tab.groups) > max(1, limits.Groups/partitions) {
				t.Fatalf("%d groups, %d in the list", len(tab.groups), tab.recent.Len())
			}
		}
		if p.used.Len() > 0 && p.weight <= 0 {
			t.Fatalf("%d groups weigh %d", p.used.Len(), p.weight)
		}
	}
	s := k.Stats()
	if len(k.pending.list) > limits.Pending+1 || weight > limits.Bytes || s.Evicted == 0 || int(s.Groups) != groups {
		t.Errorf("%d pending, weight %d, %+v", len(k.pending.list), weight, s)
	}
	// What is over is forgotten.
	for i := range int64(partitions) { // each time one partition is swept
		k.Add(Match{0, record.Native, &event.Event{Time: 1e18 + i, VM: "z", Action: "a", Call: event.Call{File: event.File{Path: "/z"}}}})
		k.Flush()
	}
	if n := k.Stats().Groups; n > uint64(len(set.Rules)) {
		t.Errorf("%d groups are left after a long time", n)
	}
}

// A day of 10,000 VMs, in simulated time, takes no more memory at its end than
// at its beginning.
func TestDay(t *testing.T) {
	set := linked(t, mixed...)
	k := newCorrelator(t, set, DefaultLimits)
	rng := rand.New(rand.NewPCG(15, 16))
	day := int64(24 * time.Hour)
	var most, first uint64
	step := day / 100000
	for at := int64(0); at < day; at += step {
		name := rng.IntN(3)
		k.Add(Match{name, record.Native, &event.Event{
			Time: at, Seq: uint64(at), VM: fmt.Sprint(rng.IntN(10000)), Action: "abc"[name : name+1],
			Call: event.Call{File: event.File{Path: fmt.Sprint("/", rng.IntN(100)), Inode: uint64(rng.IntN(9))}},
		}})
		k.Advance(at)
		if at/step%50 != 0 {
			continue
		}
		groups := k.Stats().Groups
		if at < day/10 {
			first = max(first, groups)
		} else {
			most = max(most, groups)
		}
	}
	if most > 2*first {
		t.Errorf("%d groups at the beginning, up to %d later", first, most)
	}
}

func TestRefused(t *testing.T) {
	for rule, want := range map[string]string{
		"type: event_count, rules: [a], timespan: 5s, condition: {gte: 100000}":             "at most 256 are kept",
		"type: temporal_ordered, rules: [a, b], timespan: 5s, condition: {lt: 2}":           "gt or gte",
		"type: temporal, rules: [a, b], timespan: 5s, condition: {gte: 3}":                  "of 2 rules there are never 3",
		"type: event_count, rules: [a], group-by: [shoe], timespan: 5s, condition: {gt: 1}": "has a field shoe",
	} {
		_, err := New(linked(t, rule), short, nil)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v, want %q", rule, err, want)
		}
	}
}

func BenchmarkAdvance(b *testing.B) {
	set := linked(b, mixed...)
	k := newCorrelator(b, set, DefaultLimits)
	rng := rand.New(rand.NewPCG(17, 18))
	matches := randomMatches(rng, set, 4096, 100)
	b.ReportAllocs()
	shift := int64(0)
	i := 0
	for b.Loop() {
		m := matches[i%len(matches)]
		e := *m.Event
		e.Time += shift
		if i++; i%len(matches) == 0 {
			shift += matches[len(matches)-1].Event.Time
		}
		k.Add(Match{m.Rule, m.Kind, &e})
		k.Advance(0)
	}
}
