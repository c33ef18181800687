package network

import (
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// repeats is what a guest does again and again.
var repeats struct {
	sync.WaitGroup
	over atomic.Bool
}

// repeat has act done until the guest is told to stop.
func repeat(act func()) {
	repeats.over.Store(false)
	repeats.Go(func() {
		for !repeats.over.Load() {
			act()
		}
	})
}

// drawn is what a guest has got of what it draws.
var drawn *tally

// A tally counts what is written to it.
type tally struct {
	since time.Time
	bytes atomic.Int64

	mu  sync.Mutex
	err error // the first
}

// Write implements io.Writer.
func (c *tally) Write(p []byte) (int, error) {
	c.bytes.Add(int64(len(p)))
	return len(p), nil
}

// add notes how a copy ended.
func (c *tally) add(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err == nil {
		c.err = err
	}
}

func (c *tally) state() (string, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return fmt.Sprint(c.bytes.Load(), time.Since(c.since).Nanoseconds()), c.err
}

// copyFrom writes what a server sends.
func copyFrom(address string, within time.Duration, to io.Writer) error {
	c, err := net.DialTimeout("tcp", address, within)
	if err != nil {
		return err
	}
	defer c.Close()
	_, err = io.Copy(to, c)
	return err
}
