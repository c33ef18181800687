package anomaly

import (
	"slices"
	"time"
)

// When connections are as regular as a clock. People and services that answer people
// connect at random: one interval in six is within a quarter of their median. A
// program that calls home does so by a timer, at most with some jitter: of one that is up
// to 30% either way five in six are. Three in four of sixteen come about by chance once
// in a million.
const (
	beats      = 17 // connections that are looked at
	regular    = 12 // intervals of them that have to be
	jitter     = 0.25
	shortest   = int64(10 * time.Second) // what comes more often is a health check or a retry
	sameMoment = int64(time.Second)      // what comes together is one
	// toldFor is for how long a rhythm that goes on is not told again.
	toldFor = int64(time.Hour)
)

// rhythm is the last times at which connections to one service began.
type rhythm struct {
	at   [beats]int64
	n    int
	told int64
}

// begin notes a connection, and says whether they are regular now.
func (r *rhythm) begin(now int64) bool {
	if r.n > 0 && now-r.at[r.n-1] < sameMoment {
		return false
	}
	if r.n == beats {
		copy(r.at[:], r.at[1:])
		r.n--
	}
	r.at[r.n] = now
	r.n++
	if r.n < beats || r.told != 0 && now-r.told < toldFor {
		return false
	}
	middle := int64(r.period())
	within := 0
	for i := range beats - 1 {
		if d := r.at[i+1] - r.at[i] - middle; float64(max(d, -d)) <= jitter*float64(middle) {
			within++
		}
	}
	if middle < shortest || within < regular {
		return false
	}
	r.told = now
	return true
}

// period is the median of the intervals.
func (r *rhythm) period() time.Duration {
	var d [beats - 1]int64
	for i := range d {
		d[i] = r.at[i+1] - r.at[i]
	}
	slices.Sort(d[:])
	return time.Duration(d[len(d)/2])
}
