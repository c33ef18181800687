package event

import (
	"context"
	"errors"
	"sync"
	"testing"
)

func TestQueueKeepsOrderAndReportsLoss(t *testing.T) {
	q := NewQueue(2)
	room := []bool{true, true, true, false, true, false, false}
	for i, vm := range []string{"a", "a", "b", "a", "b", "b", "a"} {
		if got := q.Put(Event{Kind: Syscall, VM: vm, Seq: uint64(i)}); got != room[i] {
			t.Fatalf("put %d: %v, want %v", i, got, room[i])
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
	want := []brief{
		{Syscall, "a", 0, 0}, {Syscall, "a", 1, 0}, {Syscall, "b", 2, 0}, {Loss, "a", 0, 2}, {Syscall, "b", 4, 0}, {Loss, "b", 0, 1}, {Syscall, "c", 9, 0},
	}
	for i, w := range want {
		if i == 6 && !q.Put(Event{Kind: Syscall, VM: "c", Seq: 9}) {
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

// TestPutAllocatesNothing, and neither does taking.
func TestPutAllocatesNothing(t *testing.T) {
	q := NewQueue(8)
	e := Event{Kind: Syscall, VM: "a", Process: Process{Name: "sh"}, Call: Call{Path: "/x"}}
	q.Put(e)
	if n := testing.AllocsPerRun(1000, func() {
		for range 12 { // some find the ring full
			q.Put(e)
		}
		for _, ok := q.take(); ok; _, ok = q.take() {
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// TestQueueForgetsIdleVMs has very many VMs come and go.
func TestQueueForgetsIdleVMs(t *testing.T) {
	q := NewQueue(1)
	for i := range 10 * maxIdle {
		q.Put(Event{Kind: Lifecycle, VM: string(rune('a'+i%26)) + string(rune('0'+i/26))})
		q.take()
	}
	if len(q.rings) > maxIdle {
		t.Errorf("%d rings are kept", len(q.rings))
	}
}
