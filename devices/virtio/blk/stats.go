package blk

import (
	"context"
	"errors"
	"sync/atomic"
	"syscall"
	"time"
)

// Stats is what a disk has done since it was made. Counters only grow.
type Stats struct {
	Read, Written     uint64 // bytes
	Discarded, Zeroed uint64 // bytes that the guest asked for
	Flushes           uint64
	Errors            Errors
}

// Errors counts requests that failed on the host, by what the host said. A guest
// is told of an I/O error for all of them, since virtio knows no other.
type Errors struct {
	NoSpace  uint64 // the host's file system or a quota is full
	ReadOnly uint64 // the file has become one that must not be written
	IO       uint64 // the host's medium, or the way to it
	Other    uint64
}

type counters struct {
	read, written, discarded, zeroed, flushes atomic.Uint64
	noSpace, readOnly, io, other              atomic.Uint64
}

// Stats may be called at any time.
func (d *Device) Stats() Stats {
	s := &d.stats
	return Stats{
		Read: s.read.Load(), Written: s.written.Load(), Discarded: s.discarded.Load(), Zeroed: s.zeroed.Load(), Flushes: s.flushes.Load(),
		Errors: Errors{s.noSpace.Load(), s.readOnly.Load(), s.io.Load(), s.other.Load()},
	}
}

// quietTime is how long a disk that has been complained of is not again.
const quietTime = 10 * time.Second

// outcome turns what the host's disk said into a status.
func (d *Device) outcome(what string, off int64, err error) uint8 {
	if err == nil {
		return statusOK
	}
	if errors.Is(err, context.Canceled) {
		return statusIOErr // nobody waits for the answer
	}
	d.count(err).Add(1)
	d.mu.Lock()
	defer d.mu.Unlock()
	if now := time.Now(); now.After(d.quiet) {
		d.quiet = now.Add(quietTime)
		d.cfg.Log.Warn("disk error on the host, passed to the guest", "operation", what, "offset", off, "err", err)
	}
	return statusIOErr
}

// count is the counter for a host's error.
func (d *Device) count(err error) *atomic.Uint64 {
	for _, kind := range []struct {
		errno   syscall.Errno
		counter *atomic.Uint64
	}{
		{syscall.ENOSPC, &d.stats.noSpace}, {syscall.EDQUOT, &d.stats.noSpace}, {syscall.EFBIG, &d.stats.noSpace},
		{syscall.EROFS, &d.stats.readOnly}, {syscall.EPERM, &d.stats.readOnly}, {syscall.EACCES, &d.stats.readOnly},
		{syscall.EIO, &d.stats.io}, {syscall.ENXIO, &d.stats.io}, {syscall.ENODEV, &d.stats.io}, {syscall.ETIMEDOUT, &d.stats.io},
		{syscall.EREMOTEIO, &d.stats.io}, {syscall.ENOLINK, &d.stats.io}, {syscall.ESTALE, &d.stats.io},
	} {
		if errors.Is(err, kind.errno) {
			return kind.counter
		}
	}
	return &d.stats.other
}
