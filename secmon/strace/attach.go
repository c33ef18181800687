package strace

import (
	"context"

	"golang.org/x/sys/unix"

	"warder/secmon/event"
	"warder/secmon/introspect"
	"warder/secmon/trap"
)

// MaxLimit is how many bytes of a string or buffer can be asked for.
const MaxLimit = 64 << 10

// queued bounds the calls that have been seen and not yet been written.
const queued = 1 << 14

// A Trace is a guest that is traced.
type Trace struct {
	traps *trap.Traps
	queue *event.Queue
}

// Attach traces a guest, by the name vm in events, until [Trace.Detach]: the
// calls that cfg asks for, with at most limit bytes of each buffer. It waits, until
// ctx ends, for the guest's kernel to show itself.
func Attach(ctx context.Context, vm string, m trap.Machine, k *introspect.Kernel, cfg Config, limit int) (*Trace, error) {
	cfg.Arch = k.Arch()
	q := event.NewQueue(queued)
	t := New(cfg, func(e event.Event) { q.Put(e) })
	traps, err := trap.Arm(ctx, m, trap.Config{
		VM: vm, Kernel: k, Calls: t.Traps(), Arguments: true, Data: limit,
		Sink:   func(e event.Event) unix.Errno { t.Entered(e); return 0 },
		Result: t.Returned,
	})
	if err != nil {
		return nil, err
	}
	return &Trace{traps, q}, nil
}

// Next takes the next call, in the order of their ends, waiting for one until ctx ends. An event of
// kind event.Loss stands for calls that came faster than they were taken.
func (t *Trace) Next(ctx context.Context) (event.Event, error) { return t.queue.Next(ctx) }

// Drained waits until all calls so far have been taken, or ctx ends.
func (t *Trace) Drained(ctx context.Context) error { return t.queue.Drained(ctx) }

// Unfollowed is how many calls' ends could not be seen.
func (t *Trace) Unfollowed() uint64 { return t.traps.Stats().Unfollowed }

// Detach takes the hooks off.
func (t *Trace) Detach(ctx context.Context) error { return t.traps.Disarm(ctx) }
