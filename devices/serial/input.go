package serial

import (
	"context"
	"errors"
	"io"
)

// Run feeds the guest from in until in ends (nil), in fails (its error), or ctx
// ends (ctx's error). Call it once at a time. A Read of in that is under way when
// ctx ends is left to finish by itself, and what it brings is lost: close in to
// end it too.
func (u *UART) Run(ctx context.Context, in io.Reader) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()

	type chunk struct {
		bytes []byte
		err   error
	}
	chunks := make(chan chunk)
	go func() {
		for {
			p := make([]byte, 512)
			n, err := in.Read(p)
			select {
			case chunks <- chunk{p[:n], err}:
			case <-ctx.Done():
				return
			}
			if err != nil {
				return
			}
		}
	}()
	for {
		select {
		case c := <-chunks:
			if err := u.feed(ctx, c.bytes); err != nil {
				return err
			}
			if errors.Is(c.err, io.EOF) {
				return nil
			}
			if c.err != nil {
				return c.err
			}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// feed gives p to the guest as fast as it takes it.
func (u *UART) feed(ctx context.Context, p []byte) error {
	for {
		p = p[u.accept(p):]
		if len(p) == 0 {
			return nil
		}
		select {
		case <-u.rxRoom:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// accept puts what fits of p into the FIFO and returns its length.
func (u *UART) accept(p []byte) int {
	u.mu.Lock()
	defer u.mu.Unlock()
	if !u.listening() {
		return 0
	}
	n := 0
	for n < len(p) && u.rx.push(p[n]) {
		n++
	}
	u.stats.Received += uint64(n)
	u.interrupt()
	return n
}

// listening reports whether the guest wants input: see the package's doc. In
// loopback the receiver is cut off from the wire.
func (u *UART) listening() bool {
	return u.mcr&mcrLoop == 0 && (u.mcr&mcrRTS != 0 || u.ier&ierRDI != 0)
}

// offerRoom wakes feed if it could go on.
func (u *UART) offerRoom() {
	if !u.listening() || u.rx.n == fifoSize {
		return
	}
	select {
	case u.rxRoom <- struct{}{}:
	default:
	}
}
