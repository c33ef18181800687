package lan

import "sync/atomic"

// A bucket lets so many bytes a second through, and as many more at once as it takes
// for traffic that comes in bursts (the generic cell rate algorithm, ITU-T I.371).
type bucket struct {
	rate atomic.Uint64 // bytes a second, 0 for any number
	due  atomic.Int64  // when what has passed would have at that rate, ns
}

const (
	second = 1_000_000_000
	// minBurst is the least that may pass at once: some frames of 64 KiB.
	minBurst = 4 << 16
	// burstTime is for how long a port that was silent may send at any rate, ns.
	burstTime = second / 10
	// maxRate is where no bound is one.
	maxRate = 1 << 40
)

func (b *bucket) set(rate uint64) { b.rate.Store(min(rate, maxRate)) }

// pass reports whether n bytes may pass now, and takes them if so.
func (b *bucket) pass(n int, now int64) bool {
	rate := b.rate.Load()
	if rate == 0 {
		return true
	}
	cost := max(int64(uint64(n)*second/rate), 1)
	burst := max(burstTime, int64(minBurst*second/rate))
	for {
		old := b.due.Load()
		due := max(old, now) + cost
		if due-now > burst {
			return false
		}
		if b.due.CompareAndSwap(old, due) {
			return true
		}
	}
}
