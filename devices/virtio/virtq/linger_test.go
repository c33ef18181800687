package virtq

import (
	"runtime"
	"sync/atomic"
	"testing"
	"time"
)

// TestLinger has the goroutine that serves a chain run while the one that took the chain
// lingers, which does so once a chain.
func TestLinger(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	var served atomic.Int32
	var q Queue
	// Go's scheduler does not look for others first each time.
	for range 30 {
		q.next++
		q.rested = time.Time{} // this machine may stand still
		go served.Add(1)
		q.Linger()
	}
	if served.Load() == 0 {
		t.Error("nobody else ran")
	}
	rested := q.rested
	if q.Linger(); q.lingered != q.next || q.rested != rested {
		t.Error("it lingered for a chain that was there before")
	}
}

// TestLingerRests has others take longer than a guest does, which is not to cost more
// than its part of the time.
func TestLingerRests(t *testing.T) {
	const slice = 4 * time.Millisecond
	for _, c := range []struct {
		name string
		took time.Duration
		want int // of 1000 chances 1 ms apart
	}{
		{"a guest's next question", soon, 1000},
		{"a time slice", slice, 1000/(1+rests*4+4) + 1},
	} {
		taken := 0
		var rested time.Time
		now := time.Now()
		for end := now.Add(time.Second); now.Before(end); now = now.Add(time.Millisecond) {
			if now.Before(rested) {
				continue
			}
			taken++
			rested = restAfter(now, now.Add(c.took))
		}
		if taken != c.want {
			t.Errorf("%s: %d of 1000 chances were taken, want %d", c.name, taken, c.want)
		}
	}
}
