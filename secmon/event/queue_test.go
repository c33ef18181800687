package event

import (
	"context"
	"errors"
	"sync"
	"testing"
)

func TestQueueKeepsOrderAndReportsLoss(t *testing.T) {
	q := NewQueue(2)
	for i, vm := range []string{"a", "a", "b", "a", "b"} {
		if got, want := q.Put(Event{Kind: Syscall, VM: vm, Seq: uint64(i)}), i < 2; got != want {
			t.Fatalf("put %d: %v, want %v", i, got, want)
		}
	}
	if q.Lost() != 3 {
		t.Errorf("lost %d, want 3", q.Lost())
	}
	type brief struct {
		kind Kind
		vm   string
		seq  uint64
		lost uint64
	}
	want := []brief{{Syscall, "a", 0, 0}, {Syscall, "a", 1, 0}, {Loss, "b", 0, 2}, {Loss, "a", 0, 1}, {Syscall, "c", 9, 0}}
	for i, w := range want {
		if i == 4 && !q.Put(Event{Kind: Syscall, VM: "c", Seq: 9}) {
			t.Fatal("no room in an empty queue")
		}
		e, err := q.Next(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if got := (brief{e.Kind, e.VM, e.Seq, e.Lost}); got != w {
			t.Errorf("event %d is %+v, want %+v", i, got, w)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := q.Next(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("an empty queue: %v, want canceled", err)
	}
}

// Every event is either taken or counted, whatever the timing.
func TestQueueAccountsForEverything(t *testing.T) {
	const sources, each = 4, 5000
	q := NewQueue(16)
	var puts sync.WaitGroup
	for range sources {
		puts.Go(func() {
			for range each {
				q.Put(Event{Kind: Syscall, VM: "x"})
			}
		})
	}
	done := make(chan struct{})
	go func() { puts.Wait(); close(done) }()
	taken, lost := uint64(0), uint64(0)
	count := func(e Event) {
		if e.Kind == Loss {
			lost += e.Lost
		} else {
			taken++
		}
	}
	for running := true; running; {
		select {
		case <-done:
			running = false
		default:
		}
		for e, ok := q.take(); ok; e, ok = q.take() {
			count(e)
		}
	}
	if taken+lost != sources*each || lost != q.Lost() {
		t.Errorf("%d taken and %d lost of %d, counted %d", taken, lost, sources*each, q.Lost())
	}
}
