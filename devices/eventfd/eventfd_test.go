package eventfd

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"
)

func newEventfd(t testing.TB) *Eventfd {
	e, err := New()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	})
	return e
}

func TestSignalBeforeAndDuringWait(t *testing.T) {
	e := newEventfd(t)
	if err := errors.Join(e.Signal(), e.Signal()); err != nil {
		t.Fatal(err)
	}
	if err := e.Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
	// Both signals were one wake-up: the next wait blocks.
	woken := make(chan error, 1)
	go func() { woken <- e.Wait(t.Context()) }()
	select {
	case err := <-woken:
		t.Fatalf("woken without a signal (%v)", err)
	default:
	}
	if err := e.Signal(); err != nil {
		t.Fatal(err)
	}
	if err := <-woken; err != nil {
		t.Fatal(err)
	}
}

func TestWaitEndsWithContext(t *testing.T) {
	e := newEventfd(t)
	for range 1000 {
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- e.Wait(ctx) }()
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Fatal(err)
		}
	}
	// None of the cancelled waits spoils the next.
	if err := e.Signal(); err != nil {
		t.Fatal(err)
	}
	if err := e.Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// TestNoSignalIsLost has one goroutine count work that another announces, with
// cancelled waits in between.
func TestNoSignalIsLost(t *testing.T) {
	e := newEventfd(t)
	const n = 20000
	var work atomic.Int64
	go func() {
		for range n {
			work.Add(1)
			e.Signal()
		}
	}()
	for done := int64(0); done < n; {
		ctx, cancel := context.WithCancel(t.Context())
		if done%3 == 0 {
			go cancel()
		}
		if err := e.Wait(ctx); err == nil {
			done += work.Swap(0)
		} else if !errors.Is(err, context.Canceled) {
			t.Fatal(err)
		}
		cancel()
	}
}

// TestSignalAfterClose must not reach whoever has the number next.
func TestSignalAfterClose(t *testing.T) {
	e, err := New()
	if err != nil {
		t.Fatal(err)
	}
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	next := newEventfd(t)
	if err := e.Signal(); err == nil {
		t.Error("no error from a closed eventfd")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if err := next.Wait(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("the next eventfd of that number was signalled: %v", err)
	}
}

func BenchmarkSignalWait(b *testing.B) {
	e := newEventfd(b)
	b.ReportAllocs()
	for b.Loop() {
		if err := errors.Join(e.Signal(), e.Wait(b.Context())); err != nil {
			b.Fatal(err)
		}
	}
}
