package console

import (
	"context"
	"errors"
	"io"
	"time"

	"warder/devices/virtio"
)

// flushPatience is how long close waits for a writer that takes nothing.
const flushPatience = 2 * time.Second

// errNotFlushed says that close gave up on a writer that does not return.
var errNotFlushed = errors.New("console: the output's reader is stuck: the last bytes were not written")

// output is the host's writer. It may take as long as it likes: the guest waits for
// it, a reset of the device does not.
type output struct {
	w    io.Writer
	free chan []byte // holds the one buffer while no write is under way
}

func newOutput(w io.Writer) *output {
	o := &output{w: w, free: make(chan []byte, 1)}
	o.free <- make([]byte, chunk)
	return o
}

// print writes all of r, a copy of it, and returns when the writer has taken it or
// ctx ends. A writer that fails loses the output, not the guest.
func (o *output) print(ctx context.Context, r io.Reader) error {
	for {
		buf, err := virtio.Await(ctx, o.free)
		if err != nil {
			return err
		}
		n, err := r.Read(buf)
		if n == 0 {
			o.free <- buf
			if errors.Is(err, io.EOF) {
				err = nil
			}
			return err
		}
		go func() {
			_, _ = o.w.Write(buf[:n])
			o.free <- buf
		}()
	}
}

// tryPrint writes p, at most a chunk of it, unless a write is under way.
func (o *output) tryPrint(p []byte) {
	select {
	case buf := <-o.free:
		n := copy(buf, p)
		go func() {
			_, _ = o.w.Write(buf[:n])
			o.free <- buf
		}()
	default:
	}
}

// close waits for a write that is under way.
func (o *output) close() error {
	select {
	case buf := <-o.free:
		o.free <- buf
		return nil
	case <-time.After(flushPatience):
		return errNotFlushed
	}
}
