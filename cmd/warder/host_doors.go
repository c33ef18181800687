package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"warder/supervisor/declaration"
	"warder/vmm"
)

// doors are sockets of the host's that lead to services and start them.
type doors struct {
	lead func(ctx context.Context, c *net.UnixConn, service string, port uint32)
	log  *slog.Logger

	ctx    context.Context
	cancel context.CancelFunc
	work   sync.WaitGroup

	mu sync.Mutex
	at map[string]*door // by the path
}

// A door is one of them.
type door struct {
	service string
	port    atomic.Uint32 // of the guest's vsock
	ctx     context.Context
	close   func()
}

// maxAtDoor is how many connections one socket has at a time.
const maxAtDoor = 256

func newDoors(lead func(context.Context, *net.UnixConn, string, uint32), log *slog.Logger) *doors {
	d := &doors{lead: lead, log: log, at: make(map[string]*door)}
	d.ctx, d.cancel = context.WithCancel(context.Background())
	return d
}

// open opens the sockets that a service is declared to have and has not yet. undo closes
// them again.
func (d *doors) open(s declaration.Service) (undo func(), err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	var opened []string
	undo = func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		d.shut(opened)
	}
	ports, err := socketsOf(s)
	if err != nil {
		return undo, err
	}
	for path, port := range ports {
		if has := d.at[path]; has != nil {
			if has.service != s.Name {
				err = fmt.Errorf("socket %s leads to %s: give another", path, has.service)
				break
			}
			continue
		}
		var l net.Listener
		if l, err = vmm.ListenUnix(path); err != nil {
			break
		}
		opened = append(opened, path)
		d.at[path] = d.keep(l, s.Name, port)
	}
	if err != nil {
		d.shut(opened)
		return undo, fmt.Errorf("on_demand: %w", err)
	}
	return undo, nil
}

// settle has a service's sockets, which are open, lead where it is declared, and closes
// what it has of others.
func (d *doors) settle(s declaration.Service) {
	d.mu.Lock()
	defer d.mu.Unlock()
	ports, _ := socketsOf(s) // they were opened
	for path, has := range d.at {
		if has.service != s.Name {
			continue
		}
		if port, ok := ports[path]; ok {
			has.port.Store(port)
		} else {
			d.shut([]string{path})
		}
	}
}

// shut closes sockets. The caller holds the lock.
func (d *doors) shut(paths []string) {
	for _, path := range paths {
		if has := d.at[path]; has != nil {
			has.close()
			delete(d.at, path)
		}
	}
}

// socketsOf are the sockets of a service by their paths, and the ports that they lead to.
func socketsOf(s declaration.Service) (map[string]uint32, error) {
	ports := make(map[string]uint32)
	if s.OnDemand == nil {
		return ports, nil
	}
	for _, e := range s.OnDemand.Sockets {
		path, port, err := declaration.ParseSocket(e)
		if err != nil {
			return nil, err
		}
		if _, twice := ports[path]; twice {
			return nil, fmt.Errorf("socket %s is there twice", path)
		}
		ports[path] = port
	}
	return ports, nil
}

// keep takes the connections to a socket until it is closed.
func (d *doors) keep(l net.Listener, service string, port uint32) *door {
	ctx, cancel := context.WithCancel(d.ctx)
	k := &door{service: service, ctx: ctx, close: func() { cancel(); l.Close() }}
	k.port.Store(port)
	d.work.Go(func() { d.answer(l, k) })
	return k
}

func (d *doors) answer(l net.Listener, k *door) {
	places := make(chan struct{}, maxAtDoor)
	for {
		c, err := l.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			d.log.Warn("socket of a service", "service", k.service, "err", err)
			select {
			case <-time.After(time.Second):
			case <-k.ctx.Done():
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
		d.work.Go(func() {
			defer func() { <-places }()
			d.lead(k.ctx, c.(*net.UnixConn), k.service, k.port.Load())
		})
	}
}

// close ends all that comes through the doors.
func (d *doors) close() {
	d.cancel()
	d.mu.Lock()
	for path := range d.at {
		d.shut([]string{path})
	}
	d.mu.Unlock()
	d.work.Wait()
}
