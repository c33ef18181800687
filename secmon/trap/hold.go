package trap

import (
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Hold keeps a call, and the vCPU that makes it, from going on until it is
// released.
type Hold struct {
	once  sync.Once
	done  chan struct{}
	errno unix.Errno
}

// NewHold makes a hold for a call.
func NewHold() *Hold { return &Hold{done: make(chan struct{})} }

// Delay makes a hold that releases itself and lets the call run.
func Delay(d time.Duration) *Hold {
	h := NewHold()
	time.AfterFunc(d, func() { h.Release(0) })
	return h
}

// Release lets the vCPU go on: the call fails with errno, or with 0 runs. The
// first release counts.
func (h *Hold) Release(errno unix.Errno) {
	h.once.Do(func() {
		h.errno = errno
		close(h.done)
	})
}
