package mirror

import (
	"sync"
	"time"

	"warder/devices/virtio/vsock"
	"warder/supervisor/link"
)

// guardInterval is the time from one word about a VM to the next at least.
const guardInterval = 10 * time.Second

// Guard sees who dials the host's port for supervisors from another VM, where nobody
// is behind it. tell is told how often, once in a while: a guest must not flood it.
// What passes is for next to say, which may be nil.
func Guard(next vsock.Watcher, tell func(tries uint64)) vsock.Watcher {
	return &guard{next: next, tell: tell}
}

type guard struct {
	next vsock.Watcher
	tell func(tries uint64)

	mu    sync.Mutex
	tries uint64
	told  time.Time
}

func (g *guard) Packet(p *vsock.Packet) bool {
	if p.Op == vsock.OpRequest && p.DestinationPort == link.Port && p.SourceCID != vsock.HostCID {
		g.tried()
	}
	return g.next != nil && g.next.Packet(p)
}

// Reset is vsock.Watcher's.
func (g *guard) Reset() {
	if g.next != nil {
		g.next.Reset()
	}
}

func (g *guard) tried() {
	g.mu.Lock()
	g.tries++
	n := g.tries
	now := time.Now()
	soon := now.Sub(g.told) < guardInterval
	if !soon {
		g.tries, g.told = 0, now
	}
	g.mu.Unlock()
	if !soon {
		g.tell(n)
	}
}
