package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"warder/supervisor/declaration"
	"warder/vmm"
)

// holder brings up services for connections. It is there before the services are: the
// LAN's ports are published first.
type holder struct {
	host atomic.Pointer[host] // nil until it is up

	mu     sync.Mutex
	told   time.Time // when it was last said that a connection was not served
	untold int       // since
}

func (d *holder) hold(ctx context.Context, service string) (context.Context, func(), error) {
	h := d.host.Load()
	if h == nil {
		return nil, nil, errors.New("the host is not up yet")
	}
	alive, release, err := h.services.Hold(ctx, service)
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

// doors are sockets of the host's that lead to services and start them.
type doors struct {
	ctx    context.Context
	cancel context.CancelFunc
	work   sync.WaitGroup
	opened []net.Listener
}

// maxAtDoor is how many connections one socket has at a time.
const maxAtDoor = 256

// openDoors opens the sockets of the configuration's services.
func (h *host) openDoors(list []hostVM) error {
	h.doors.ctx, h.doors.cancel = context.WithCancel(context.Background())
	for _, v := range list {
		if v.OnDemand == nil {
			continue
		}
		for _, e := range v.OnDemand.Sockets {
			path, port, err := declaration.ParseSocket(e)
			if err != nil {
				return err
			}
			l, err := vmm.ListenUnix(path)
			if err != nil {
				return fmt.Errorf("service %s: on_demand: %w", v.Name, err)
			}
			h.doors.opened = append(h.doors.opened, l)
			h.doors.work.Go(func() { h.keepDoor(l, v.Name, port) })
		}
	}
	return nil
}

// close ends all that comes through the doors.
func (d *doors) close() {
	if d.cancel == nil {
		return
	}
	d.cancel()
	for _, l := range d.opened {
		l.Close()
	}
	d.work.Wait()
}

// keepDoor takes the connections to one socket until it is closed.
func (h *host) keepDoor(l net.Listener, service string, port uint32) {
	places := make(chan struct{}, maxAtDoor)
	for {
		c, err := l.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			h.log.Warn("socket of a service", "service", service, "err", err)
			select {
			case <-time.After(time.Second):
			case <-h.doors.ctx.Done():
				return
			}
			continue
		}
		select {
		case places <- struct{}{}:
		default:
			c.Close()
			continue
		}
		h.doors.work.Go(func() {
			defer func() { <-places }()
			h.leadTo(c.(*net.UnixConn), service, port)
		})
	}
}

// readyTime is how long a service that runs may take to listen at its port.
const readyTime = 30 * time.Second

// leadTo brings a connection to a port of the service's vsock.
func (h *host) leadTo(c *net.UnixConn, service string, port uint32) {
	defer c.Close()
	defer context.AfterFunc(h.doors.ctx, func() { c.Close() })()
	alive, release, err := h.demand.hold(h.doors.ctx, service)
	if err != nil {
		return
	}
	defer release()
	defer context.AfterFunc(alive, func() { c.Close() })()
	ctx, cancel := context.WithTimeout(alive, readyTime)
	defer cancel()
	h.mu.Lock()
	vm := h.running[service]
	h.mu.Unlock()
	if vm == nil { // it has just ended
		return
	}
	for {
		guest, err := vm.Machine().Vsock().Dial(ctx, port)
		if err == nil {
			passBoth(c, guest)
			return
		}
		select {
		case <-time.After(50 * time.Millisecond): // it may not listen yet
		case <-ctx.Done():
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
