// Package meter keeps account of the CPU time that the workers of a guest's devices take.
//
// A worker's thread is its own while it works, so that the thread's clock is the
// worker's, and anybody's while it waits. Between two pieces of work, where it holds
// nothing that others wait for, it can be made to stand still.
package meter

import (
	"context"
	"runtime"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// A Meter is what all workers of one guest are measured by.
type Meter struct {
	spent atomic.Int64                  // ns
	gate  atomic.Pointer[chan struct{}] // workers stand still until it is closed; nil for none
}

// Spent is the CPU time that the workers have taken, that of the kernel for them
// included. What a worker is at is added when it is done with it.
func (m *Meter) Spent() time.Duration { return time.Duration(m.spent.Load()) }

// Hold has the workers stand still, each when it is done with what it is at, until gate
// is closed. A worker whose context ends does not stand any longer.
func (m *Meter) Hold(gate chan struct{}) { m.gate.Store(&gate) }

// A Worker is a goroutine that works for a guest. All methods are its own. They may be
// called of nil, a worker that nobody measures.
type Worker struct {
	meter *Meter
	done  <-chan struct{}
	since time.Duration // of the thread's clock, up to which all has been counted
}

// key is that of a context's worker.
type key struct{}

// Work runs f as a worker measured by m, or just so if m is nil. The context that f
// gets is for this goroutine alone.
func Work(ctx context.Context, m *Meter, f func(context.Context) error) error {
	if m == nil {
		return f(ctx)
	}
	w := &Worker{meter: m, done: ctx.Done()}
	w.Stand()
	w.begin()
	defer w.end()
	return f(context.WithValue(ctx, key{}, w))
}

// Of is the worker whose context ctx is, or was made of; nil if nobody measures it.
func Of(ctx context.Context) *Worker {
	w, _ := ctx.Value(key{}).(*Worker)
	return w
}

// Meter is what the worker is measured by.
func (w *Worker) Meter() *Meter {
	if w == nil {
		return nil
	}
	return w.meter
}

// Idle runs wait, which waits for something: that is not counted, and others have the
// thread. A worker that waits without Idle is measured rightly, but keeps its thread.
func (w *Worker) Idle(wait func()) {
	if w == nil {
		wait()
		return
	}
	w.end()
	defer w.begin()
	wait()
}

// Stand waits until the worker may work. It belongs into Idle.
func (w *Worker) Stand() {
	if w == nil {
		return
	}
	for gate := w.meter.gate.Load(); gate != nil; gate = w.meter.gate.Load() {
		select {
		case <-*gate:
			w.meter.gate.CompareAndSwap(gate, nil)
		case <-w.done:
			return
		}
	}
}

// Lap ends one piece of work and begins the next, when the worker may.
func (w *Worker) Lap() {
	if w == nil {
		return
	}
	if w.meter.gate.Load() != nil {
		w.Idle(w.Stand)
		return
	}
	w.count()
}

// begin takes a thread.
func (w *Worker) begin() {
	runtime.LockOSThread()
	w.since = clock()
}

func (w *Worker) end() {
	w.count()
	runtime.UnlockOSThread()
}

func (w *Worker) count() {
	now := clock()
	w.meter.spent.Add(int64(now - w.since))
	w.since = now
}

// clock is the CPU time of the calling thread.
func clock() time.Duration {
	var ts unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &ts) // each thread has this clock
	return time.Duration(ts.Nano())
}
