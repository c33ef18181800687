package main

import (
	"context"
	"io"
	"log/slog"
	"net"
	"sync"
	"time"
)

// holder brings up services for connections. It is there before the services are: the
// ways to them are opened first.
type holder struct {
	up   chan struct{} // closed when the host is
	host *host         // from then on

	mu     sync.Mutex
	told   time.Time // when it was last said that a connection was not served
	untold int       // since
}

func newHolder() *holder { return &holder{up: make(chan struct{})} }

// serve has connections start the services of a host, those too that wait already.
func (d *holder) serve(h *host) {
	d.host = h
	close(d.up)
}

func (d *holder) hold(ctx context.Context, service, peer string) (context.Context, func(), error) {
	select {
	case <-d.up:
	case <-ctx.Done():
		return nil, nil, ctx.Err()
	}
	h := d.host
	alive, release, err := h.services.Hold(ctx, service, peer)
	if err != nil && ctx.Err() == nil {
		d.tell(h.log, service, err)
	}
	return alive, release, err
}

// tell says that a connection was not served, once a second at the most: who connects
// decides how often.
func (d *holder) tell(log *slog.Logger, service string, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if time.Since(d.told) < time.Second {
		d.untold++
		return
	}
	log.Warn("a connection was not served", "service", service, "because", err, "others_since", d.untold)
	d.told, d.untold = time.Now(), 0
}

// readyTime is how long a service that runs may take to listen at its port.
const readyTime = 30 * time.Second

// leadTo brings a connection to a port of the service's vsock.
func (h *host) leadTo(ctx context.Context, c *net.UnixConn, service string, port uint32) {
	defer c.Close()
	defer context.AfterFunc(ctx, func() { c.Close() })()
	alive, release, err := h.demand.hold(ctx, service, "")
	if err != nil {
		return
	}
	defer release()
	defer context.AfterFunc(alive, func() { c.Close() })()
	soon, cancel := context.WithTimeout(alive, readyTime)
	defer cancel()
	h.mu.Lock()
	vm := h.running[service]
	h.mu.Unlock()
	if vm == nil { // it has just ended
		return
	}
	for {
		guest, err := vm.Machine().Vsock().Dial(soon, port)
		if err == nil {
			passBoth(c, guest)
			return
		}
		select {
		case <-time.After(50 * time.Millisecond): // it may not listen yet
		case <-soon.Done():
			h.demand.tell(h.log, service, err)
			return
		}
	}
}

// passBoth copies both ways until both have ended.
func passBoth(a, b net.Conn) {
	pipe := func(to, from net.Conn) {
		_, err := io.Copy(to, from)
		if w, ok := to.(interface{ CloseWrite() error }); ok && err == nil {
			err = w.CloseWrite()
		}
		if err != nil {
			a.Close()
			b.Close()
		}
	}
	var other sync.WaitGroup
	other.Go(func() { pipe(a, b) })
	pipe(b, a)
	other.Wait()
	a.Close()
	b.Close()
}
