package vsock

import (
	"context"
	"fmt"
	"net"
)

// Host ports of Dial come from this range, away from those that people choose.
const (
	firstDialPort = 1 << 30
	lastDialPort  = 1<<31 - 1
)

// Dial connects to a port of the guest. The result is a [*Conn]. The error wraps
// syscall.ECONNREFUSED when nothing listens there, [ErrNotReady] before the guest's
// driver is up, [ErrTooMany], or the context's error with what the guest failed to
// do in time.
func (d *Device) Dial(ctx context.Context, port uint32) (net.Conn, error) {
	c, err := d.dial(port)
	if err != nil {
		return nil, d.dialError(port, err)
	}
	select {
	case <-c.opened:
	case <-ctx.Done():
	}

	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case c.state == open:
		return c, nil
	case c.state == over && c.err != nil:
		err = c.err
	case c.state == over:
		// The guest took the connection and ended it before we looked.
		return c, nil
	case c.sent:
		err = fmt.Errorf("the guest took the request but did not answer: %w", context.Cause(ctx))
	default:
		err = fmt.Errorf("the guest did not take the request, its receive queue is empty: %w", context.Cause(ctx))
	}
	c.abort(err)
	c.closed = true
	d.held--
	return nil, d.dialError(port, err)
}

func (d *Device) dial(port uint32) (*Conn, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case d.closed:
		return nil, net.ErrClosed
	case !d.running:
		return nil, ErrNotReady
	case d.held >= d.maxConns:
		return nil, ErrTooMany
	}
	c := d.newConn(ports{guest: port, host: d.freePort(port)}, dialing)
	c.owe |= oweRequest
	c.schedule()
	return c, nil
}

// freePort is a host port that no connection to the guest's port has and nobody
// listens on. There is one: the range is larger than all limits.
func (d *Device) freePort(guest uint32) uint32 {
	for {
		d.lastPort++
		if d.lastPort < firstDialPort || d.lastPort > lastDialPort {
			d.lastPort = firstDialPort
		}
		_, taken := d.conns[ports{guest: guest, host: d.lastPort}]
		_, listening := d.listeners[d.lastPort]
		if !taken && !listening {
			return d.lastPort
		}
	}
}

func (d *Device) dialError(port uint32, err error) error {
	return &net.OpError{Op: "dial", Net: "vsock", Addr: Addr{CID: d.cid, Port: port}, Err: err}
}
