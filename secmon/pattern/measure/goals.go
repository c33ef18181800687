package measure

import (
	"fmt"
	"slices"
)

// goal is what a measurement should be, at least or at most.
type goal struct {
	name        string
	least, most float64
}

// goals are those of docs/SPECIFICATION.md.
var goals = []goal{
	{"0 % match, a core", 1e6, 0},
	{"one by one, how much slower", 300, 0},
	{"latency of an alert, p99", 0, 1000},
}

// Goals says of each goal whether results meet it.
func Goals(results []Result) (lines []string) {
	for _, g := range goals {
		i := slices.IndexFunc(results, func(r Result) bool { return r.Name == g.name })
		if i < 0 {
			continue
		}
		r, bound, met := results[i], fmt.Sprintf("at least %.0f %s", g.least, results[i].Unit), results[i].Value >= g.least
		if g.most > 0 {
			bound, met = fmt.Sprintf("at most %.0f %s", g.most, r.Unit), r.Value <= g.most
		}
		verdict := "MISSED"
		if met {
			verdict = "met"
		}
		lines = append(lines, fmt.Sprintf("goal: %s, %s: %s, %.0f", g.name, bound, verdict, r.Value))
	}
	return lines
}
