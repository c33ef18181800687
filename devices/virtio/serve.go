package virtio

import (
	"context"
	"fmt"
	"runtime/debug"
	"slices"
	"sync"

	"warder/devices/meter"
	"warder/devices/virtio/virtq"
)

// Serve runs the loops of a device's Run, each in a goroutine of its own that is measured
// as the caller's is, and returns the first error once all have returned. That error, like
// the end of ctx, ends the context that the loops get. A panic in a loop is a bug of ours
// that a guest may have found; it becomes an error, since it is to cost the guest its
// device and not the host its process.
func Serve(ctx context.Context, loops ...func(context.Context) error) error {
	inner, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	caller := meter.Of(ctx)
	var work sync.WaitGroup
	for _, loop := range loops {
		work.Go(func() {
			defer func() {
				if p := recover(); p != nil {
					cancel(fmt.Errorf("panic: %v\n%s", p, debug.Stack()))
				}
			}()
			if err := meter.Work(inner, caller.Meter(), loop); err != nil {
				cancel(err)
			}
		})
	}
	caller.Idle(work.Wait)
	return context.Cause(inner)
}

// Workers are loops that serve the chains of q, so many at a time. Each worker is
// what newWorker returns, called for one chain after the other.
func Workers(q *virtq.Queue, n int, newWorker func() func(context.Context, *virtq.Chain) error) []func(context.Context) error {
	chains := make(chan *virtq.Chain)
	take := func(ctx context.Context) error {
		defer close(chains)
		for {
			q.Linger()
			c, err := q.Next(ctx)
			if err != nil {
				return err
			}
			select {
			case chains <- c:
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		}
	}
	work := func(ctx context.Context) error {
		serve, worker := newWorker(), meter.Of(ctx)
		for {
			var c *virtq.Chain
			worker.Idle(func() {
				c = <-chains
				worker.Stand()
			})
			if c == nil {
				return nil
			}
			if err := serve(ctx, c); err != nil {
				return err
			}
		}
	}
	return append(slices.Repeat([]func(context.Context) error{work}, n), take)
}

// Await waits for c to give something, or for the end of ctx, whose cause it returns. A
// worker does not stand still in it, where it holds what c gave, but at its queue.
func Await[T any](ctx context.Context, c <-chan T) (v T, err error) {
	meter.Of(ctx).Idle(func() {
		select {
		case v = <-c:
		case <-ctx.Done():
			err = context.Cause(ctx)
		}
	})
	return v, err
}

// Rest is the loop of a device that goes on without any of its driver's queues: it waits
// for the reset.
func Rest(ctx context.Context) error {
	_, err := Await[struct{}](ctx, nil)
	return err
}
