package serial

import (
	"errors"
	"io"
	"sync"
	"time"
)

// bufferSize bounds the output that waits for the host's writer.
const bufferSize = 64 << 10

// flushPatience is how long Close waits for a writer that takes nothing.
const flushPatience = 2 * time.Second

// ErrNotFlushed says that Close gave up on a writer that did not return.
var ErrNotFlushed = errors.New("serial: the output's reader is stuck: the last bytes were not written")

// transmitter carries bytes to a writer that may be slow or fail, in order.
type transmitter struct {
	out   io.Writer
	taken func() // called, without mu, after what was put has made room

	mu      sync.Mutex
	work    *sync.Cond // pending is not empty, or closed
	pending []byte     // at most bufferSize
	spare   []byte     // the other buffer, nil while the writer has it
	closed  bool
	done    chan struct{} // closed when the goroutine has ended
	beat    chan struct{} // holds a token after a write that took something
	counts  Stats
}

func newTransmitter(out io.Writer, taken func()) *transmitter {
	t := &transmitter{
		out:   out,
		taken: taken,
		done:  make(chan struct{}),
		beat:  make(chan struct{}, 1),
	}
	t.work = sync.NewCond(&t.mu)
	go t.run()
	return t
}

// room reports whether a whole FIFO fits.
func (t *transmitter) room() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.pending) <= bufferSize-fifoSize
}

// put takes one byte, or drops it where there is no room at all.
func (t *transmitter) put(v byte) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed || len(t.pending) == bufferSize {
		t.counts.Dropped++
		return
	}
	t.pending = append(t.pending, v)
	t.work.Signal()
}

func (t *transmitter) stats() Stats {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.counts
}

func (t *transmitter) run() {
	defer close(t.done)
	for {
		chunk, ok := t.take()
		if !ok {
			return
		}
		t.taken()
		t.write(chunk)
	}
}

// take returns all that is pending, once there is something.
func (t *transmitter) take() ([]byte, bool) {
	t.mu.Lock()
	for len(t.pending) == 0 && !t.closed {
		t.work.Wait()
	}
	chunk := t.pending
	t.pending, t.spare = t.spare[:0], nil
	t.mu.Unlock()
	return chunk, len(chunk) > 0
}

// write gives chunk to the writer and takes the buffer back.
func (t *transmitter) write(chunk []byte) {
	n, err := t.out.Write(chunk)
	n = max(0, min(n, len(chunk)))
	t.mu.Lock()
	t.counts.Sent += uint64(n)
	t.counts.Dropped += uint64(len(chunk) - n)
	if err != nil {
		t.counts.Err = err
	} else if n < len(chunk) {
		t.counts.Err = io.ErrShortWrite
	}
	t.spare = chunk
	t.mu.Unlock()
	select {
	case t.beat <- struct{}{}:
	default:
	}
}

func (t *transmitter) close() error {
	t.mu.Lock()
	t.closed = true
	t.work.Signal()
	t.mu.Unlock()
	for {
		select {
		case <-t.done:
			return nil
		case <-t.beat:
		case <-time.After(flushPatience):
			return ErrNotFlushed
		}
	}
}
