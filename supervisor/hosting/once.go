package hosting

import (
	"context"
	"sync"
)

// once is something that is done one time, for all who want it done. It goes on when
// who began it has given up.
type once[T any] struct {
	begin sync.Once
	done  chan struct{}
	v     T
	err   error
}

func newOnce[T any]() *once[T] { return &once[T]{done: make(chan struct{})} }

// start has it done by f, unless somebody has begun.
func (o *once[T]) start(f func() (T, error)) {
	o.begin.Do(func() {
		go func() {
			defer close(o.done)
			o.v, o.err = f()
		}()
	})
}

// do has it done by f unless somebody has begun, and gives what came of it.
func (o *once[T]) do(ctx context.Context, f func() (T, error)) (T, error) {
	o.start(f)
	return o.wait(ctx)
}

// wait gives what came of it once somebody has done it.
func (o *once[T]) wait(ctx context.Context) (v T, err error) {
	select {
	case <-o.done:
		return o.v, o.err
	case <-ctx.Done():
		return v, ctx.Err()
	}
}

// over tells whether it has been done.
func (o *once[T]) over() bool {
	select {
	case <-o.done:
		return true
	default:
		return false
	}
}
