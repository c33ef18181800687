// Package eventfd is eventfd(2), waited for without holding a thread: KVM
// signals one for a doorbell of the guest's, and pulses an interrupt when one is
// signalled.
package eventfd

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// An Eventfd is a counter that wakes whoever waits for it.
type Eventfd struct {
	file  *os.File // for the runtime's poller
	count [8]byte  // what Wait reads

	mu sync.RWMutex // held while fd is used, or taken away
	fd int          // -1 after Close

	// What interrupts Wait is set up once for a context: a busy device waits again
	// and again with the same.
	ctx         context.Context
	stop        func() bool
	interrupted chan struct{} // closed when the deadline is set for the end of ctx
}

// New makes an eventfd whose counter is 0.
func New() (*Eventfd, error) {
	fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("eventfd: %w", err)
	}
	return &Eventfd{fd: fd, file: os.NewFile(uintptr(fd), "eventfd")}, nil
}

// FD is the file descriptor, for the kernel. It stays non-blocking.
func (e *Eventfd) FD() int { return e.fd }

// one is what Signal adds.
var one = binary.NativeEndian.AppendUint64(nil, 1)

// Signal adds one to the counter.
func (e *Eventfd) Signal() error {
	// Not through the file, which would wait for a full counter to be read, and
	// allocate for it.
	e.mu.RLock()
	defer e.mu.RUnlock()
	for {
		_, err := unix.Write(e.fd, one)
		switch err {
		case unix.EINTR:
			continue
		case nil, unix.EAGAIN: // a full counter says the same as one more would
			return nil
		}
		return fmt.Errorf("eventfd: signal: %w", err)
	}
}

// past is a deadline that has gone by.
var past = time.Unix(1, 0)

// Wait waits until the counter is not 0 and sets it to 0. One goroutine may
// wait at a time. When ctx ends it returns ctx's error and leaves the counter.
func (e *Eventfd) Wait(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if ctx != e.ctx {
		e.forget()
		interrupted := make(chan struct{})
		e.ctx, e.interrupted = ctx, interrupted
		e.stop = context.AfterFunc(ctx, func() {
			e.file.SetReadDeadline(past)
			close(interrupted)
		})
	}
	_, err := e.file.Read(e.count[:])
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil && errors.Is(err, os.ErrDeadlineExceeded):
		return ctx.Err()
	}
	return fmt.Errorf("eventfd: wait: %w", err)
}

// forget undoes what Wait has set up for its last context.
func (e *Eventfd) forget() {
	if e.ctx == nil {
		return
	}
	if !e.stop() {
		// The deadline is set or about to be: take it off again, so that it is
		// not there for the next to wait.
		<-e.interrupted
		e.file.SetReadDeadline(time.Time{})
	}
	e.ctx, e.stop, e.interrupted = nil, nil, nil
}

// Close closes the descriptor. Nobody may be waiting.
func (e *Eventfd) Close() error {
	e.forget()
	e.mu.Lock()
	defer e.mu.Unlock()
	e.fd = -1 // somebody else's from now on
	return e.file.Close()
}
