// Package eventfd is eventfd(2), waited for without holding a thread: KVM
// signals one for a doorbell of the guest's, and pulses an interrupt when one is
// signalled.
package eventfd

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// An Eventfd is a counter that wakes whoever waits for it.
type Eventfd struct {
	fd   int
	file *os.File // fd again, for the runtime's poller
	raw  syscall.RawConn
}

// New makes an eventfd whose counter is 0.
func New() (*Eventfd, error) {
	fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("eventfd: %w", err)
	}
	e := &Eventfd{fd: fd, file: os.NewFile(uintptr(fd), "eventfd")}
	if e.raw, err = e.file.SyscallConn(); err != nil {
		return nil, errors.Join(fmt.Errorf("eventfd: %w", err), e.Close())
	}
	return e, nil
}

// FD is the file descriptor, for the kernel. It stays non-blocking.
func (e *Eventfd) FD() int { return e.fd }

// one is what Signal adds.
var one = binary.NativeEndian.AppendUint64(nil, 1)

// Signal adds one to the counter.
func (e *Eventfd) Signal() error {
	// The raw descriptor is used so that a deadline of Wait does not apply, but
	// through Control, so that it is not somebody else's after Close.
	var err error
	closed := e.raw.Control(func(fd uintptr) {
		for {
			if _, err = unix.Write(int(fd), one); err != unix.EINTR {
				return
			}
		}
	})
	// A full counter (EAGAIN) says the same as one more would.
	if err == unix.EAGAIN {
		err = nil
	}
	if err = cmp.Or(closed, err); err != nil {
		return fmt.Errorf("eventfd: signal: %w", err)
	}
	return nil
}

// past is a deadline that has gone by.
var past = time.Unix(1, 0)

// Wait waits until the counter is not 0 and sets it to 0. One goroutine may
// wait at a time. When ctx ends it returns ctx's error and leaves the counter.
func (e *Eventfd) Wait(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	interrupted := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		e.file.SetReadDeadline(past)
		close(interrupted)
	})
	var n [8]byte
	_, err := e.file.Read(n[:])
	if !stop() {
		// The deadline is set or about to be: take it off again, so that it is
		// not there for the next to wait.
		<-interrupted
		e.file.SetReadDeadline(time.Time{})
	}
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil && errors.Is(err, os.ErrDeadlineExceeded):
		return ctx.Err()
	}
	return fmt.Errorf("eventfd: wait: %w", err)
}

// Close closes the descriptor. Nobody may be waiting.
func (e *Eventfd) Close() error { return e.file.Close() }
