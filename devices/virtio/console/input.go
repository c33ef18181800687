package console

import (
	"context"
	"io"
	"sync"

	"warder/devices/virtio"
)

// chunk is how much is read ahead of the guest.
const chunk = 4096

// input reads the host's side on a goroutine of its own, because a read can't
// be taken back when the device is reset: what it brings is kept for the next
// that wants it. It reads no further before that is taken.
type input struct {
	mu      sync.Mutex
	ready   chan struct{} // holds a value while there are bytes
	taken   chan struct{} // holds a value when they have been taken
	closed  chan struct{}
	drained chan struct{} // closed when reading has ended and all of it was taken
	once    sync.Once
	bytes   []byte
}

func newInput(r io.Reader) *input {
	in := &input{ready: make(chan struct{}, 1), taken: make(chan struct{}, 1), closed: make(chan struct{}), drained: make(chan struct{})}
	go in.read(r)
	return in
}

func (in *input) read(r io.Reader) {
	defer close(in.drained)
	buf := make([]byte, chunk)
	for {
		n, err := r.Read(buf)
		if n > 0 {
			in.mu.Lock()
			in.bytes = buf[:n]
			in.mu.Unlock()
			in.ready <- struct{}{}
			select {
			case <-in.taken:
			case <-in.closed:
				return
			}
		}
		if err != nil {
			return
		}
	}
}

// wait waits until there are bytes to take.
func (in *input) wait(ctx context.Context) error {
	if _, err := virtio.Await(ctx, in.ready); err != nil {
		return err
	}
	in.ready <- struct{}{} // still there, for the next who waits
	return nil
}

// take gives at most n bytes. They are valid until the next call.
func (in *input) take(n int) []byte {
	in.mu.Lock()
	defer in.mu.Unlock()
	p := in.bytes[:min(n, len(in.bytes))]
	in.bytes = in.bytes[len(p):]
	if len(in.bytes) == 0 && len(p) > 0 {
		// The reader fills its buffer again only after the value that take
		// leaves behind here, and p is still in use: hand out a copy.
		p = append([]byte(nil), p...)
		<-in.ready
		in.taken <- struct{}{}
	}
	return p
}

func (in *input) close() { in.once.Do(func() { close(in.closed) }) }
