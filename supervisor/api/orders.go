package api

import (
	"context"
	"encoding/json"
	"io"
)

// orders is what a client may say of a command. Each frame is taken at once, so that one
// that the command has no time for holds up none of those behind it.
type orders struct {
	input  *input       // nil for none
	size   func(s Size) // of the terminal
	signal func(n int)  // nil for none
}

// maxSignals is how many signals wait for a guest that does not take them; what is more
// is lost.
const maxSignals = 16

// take does what a client says until it is gone, or says what it may not.
func (o *orders) take(ctx context.Context, r io.Reader) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	sizes, signals := make(chan Size, 1), make(chan int, maxSignals)
	go each(ctx, sizes, o.size)
	go each(ctx, signals, o.signal)
	for {
		kind, b, err := readFrame(r)
		if err != nil {
			return
		}
		switch {
		case kind == frameInput && o.input != nil:
			if o.input.put(b) != nil {
				return
			}
		case kind == frameInputEnd:
			if o.input != nil {
				o.input.end()
			}
		case kind == frameSize:
			var s Size
			if json.Unmarshal(b, &s) == nil {
				select { // the last one counts
				case <-sizes:
				default:
				}
				sizes <- s
			}
		case kind == frameSignal && o.signal != nil:
			var n int
			if json.Unmarshal(b, &n) == nil {
				select {
				case signals <- n:
				default:
				}
			}
		default:
			return
		}
	}
}

// each does something with each value, one after the other, until ctx ends.
func each[T any](ctx context.Context, values <-chan T, do func(T)) {
	for {
		select {
		case v := <-values:
			do(v)
		case <-ctx.Done():
			return
		}
	}
}
