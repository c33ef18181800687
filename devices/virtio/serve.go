package virtio

import (
	"context"
	"fmt"
	"runtime/debug"
	"sync"
)

// Serve runs the loops of a device's Run, each in a goroutine of its own, and returns
// the first error once all have returned. That error, like the end of ctx, ends the
// context that the loops get. A panic in a loop is a bug of ours that a guest may
// have found; it becomes an error, since it is to cost the guest its device and not
// the host its process.
func Serve(ctx context.Context, loops ...func(context.Context) error) error {
	inner, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var work sync.WaitGroup
	for _, loop := range loops {
		work.Go(func() {
			defer func() {
				if p := recover(); p != nil {
					cancel(fmt.Errorf("panic: %v\n%s", p, debug.Stack()))
				}
			}()
			if err := loop(inner); err != nil {
				cancel(err)
			}
		})
	}
	work.Wait()
	return context.Cause(inner)
}
