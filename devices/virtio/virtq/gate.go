package virtq

import (
	"context"
	"fmt"
	"sync"
)

// ErrClosed says that the queues will not be served again. It is an
// end of context: nobody waits for what could not be done.
var ErrClosed = fmt.Errorf("virtq: the device has been closed: %w", context.Canceled)

// A Gate is what the queues of one device pass for each access to guest
// memory that the guest could see: taking a chain, filling its room,
// giving it back with its interrupt. While it is shut they wait, so that a
// device can be suspended at any point of its work without knowing of it.
// What it moves between guest memory and a file waits too.
//
// The zero Gate is open.
type Gate struct {
	access sync.RWMutex // held to write while shut

	mu     sync.Mutex // held while shut or closed is changed
	shut   bool
	closed bool // guarded by access too
}

// enter waits until the gate is open and keeps it so until leave. It fails
// only when the gate has been closed for good. It must not be nested: a Shut
// in between would wait for the outer, and the inner for the Shut.
func (g *Gate) enter() error {
	g.access.RLock()
	if g.closed {
		g.access.RUnlock()
		return ErrClosed
	}
	return nil
}

func (g *Gate) leave() { g.access.RUnlock() }

// Shut waits for the accesses that are under way and keeps new ones waiting
// until Open. An access takes no longer than one read or write of a file.
func (g *Gate) Shut() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.shut && !g.closed {
		g.access.Lock()
		g.shut = true
	}
}

// Open lets the accesses that wait go on.
func (g *Gate) Open() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.shut {
		g.shut = false
		g.access.Unlock()
	}
}

// Close has every access fail with [ErrClosed] from now on, those that wait
// at a shut gate too.
func (g *Gate) Close() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.shut {
		g.access.Lock()
	}
	g.shut, g.closed = false, true
	g.access.Unlock()
}
