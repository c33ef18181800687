package hosting

import "sync"

// A tape keeps the last of a stream of values, as much as it has room for, and
// any number of readers follow it. What a reader is too slow for is counted.
type tape[T any] struct {
	room  int         // bytes
	size  func(T) int // of a value
	mu    sync.Mutex
	kept  []T
	first uint64 // the number of kept[0]; the first value ever has 1
	held  int    // bytes
	more  chan struct{}
}

func newTape[T any](room int, size func(T) int) *tape[T] {
	return &tape[T]{room: room, size: size, first: 1, more: make(chan struct{})}
}

// add puts a value at the end, made by f from its number.
func (t *tape[T]) add(f func(seq uint64) T) {
	t.mu.Lock()
	defer t.mu.Unlock()
	v := f(t.first + uint64(len(t.kept)))
	t.kept = append(t.kept, v)
	t.held += t.size(v)
	drop := 0
	for t.held > t.room && drop < len(t.kept)-1 {
		t.held -= t.size(t.kept[drop])
		drop++
	}
	if drop > 0 {
		clear(t.kept[:drop]) // for the collector, until append moves what is kept
		t.kept, t.first = t.kept[drop:], t.first+uint64(drop)
	}
	close(t.more)
	t.more = make(chan struct{})
}

// from gives the values that are kept from a number on, the number to go on
// from, and how many before are gone. more is closed when there are others.
func (t *tape[T]) from(seq uint64) (values []T, next, lost uint64, more <-chan struct{}) {
	t.mu.Lock()
	defer t.mu.Unlock()
	end := t.first + uint64(len(t.kept))
	seq = min(max(seq, 1), end)
	if seq < t.first {
		lost, seq = t.first-seq, t.first
	}
	values = append(values, t.kept[seq-t.first:]...)
	return values, end, lost, t.more
}

// last is the number from which on there are n values, or fewer.
func (t *tape[T]) last(n int) uint64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.first + uint64(max(0, len(t.kept)-n))
}
