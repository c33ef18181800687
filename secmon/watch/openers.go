package watch

import (
	"net/netip"
	"sync"
	"time"

	"warder/secmon/event"
)

// openers are the processes of a machine that were about to open flows. A call says
// where to, but seldom from which port: the kernel picks one later. The network sees the
// port, and not the process. The first packet leaves while the call runs, so the last
// process that called with that destination is the one.
type openers struct {
	mu   sync.Mutex
	last map[destination]opener
}

type destination struct {
	transport string
	to        netip.AddrPort
	vsock     event.VsockEnd // of vsock, instead
}

func destinationOf(n *event.Net) destination {
	return destination{n.Transport, n.Destination, n.Vsock[1]}
}

type opener struct {
	process event.Process
	at      int64
}

const (
	// maxOpeners is how many destinations of one machine are remembered.
	maxOpeners = 256
	// openTime is how long a call may take until its first packet is out: on a host with
	// more to do than it can, a while.
	openTime = int64(time.Minute)
)

// connects are the calls that can open a connection of TCP; those that send can by TCP Fast Open.
var connects = map[string]bool{"connect": true, "sendto": true, "sendmsg": true, "sendmmsg": true, "send": true}

// note remembers who makes a call that may open a flow.
func (o *openers) note(e *event.Event) {
	n := e.Net
	if e.Kind != event.Syscall || n == nil || !n.Initiated || !n.Destination.IsValid() && n.Transport != event.Vsock {
		return
	}
	if n.Transport == "tcp" && !connects[e.Call.Name] {
		return // it goes on with a flow
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.last == nil {
		o.last = make(map[destination]opener)
	}
	d := destinationOf(n)
	if _, known := o.last[d]; !known && len(o.last) >= maxOpeners {
		oldest, at := destination{}, int64(1<<63-1)
		for d, x := range o.last {
			if x.at < at {
				oldest, at = d, x.at
			}
		}
		delete(o.last, oldest)
	}
	o.last[d] = opener{e.Process, e.Time}
}

// name puts the process into the event of a flow that it has opened.
func (o *openers) name(e *event.Event) {
	n := e.Net
	if e.Kind != event.Flow || e.Action != event.Began || n == nil || e.VM != n.SourceVM {
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if x, ok := o.last[destinationOf(n)]; ok && e.Time-x.at < openTime {
		e.Process = x.process
	}
}
