package vsock

import (
	"net"
	"syscall"
)

// backlog is how many connections wait for Accept; more are refused.
const backlog = 128

// Listener takes the connections that the guest makes to one port of CID 2. It
// stays through resets of the device.
type Listener struct {
	d       *Device
	port    uint32
	backlog chan *Conn
	done    chan struct{}
}

var _ net.Listener = (*Listener)(nil)

// Listen takes the guest's connections to a port of the host. The error wraps
// syscall.EADDRINUSE when another listener has the port.
func (d *Device) Listen(port uint32) (net.Listener, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	addr := Addr{CID: HostCID, Port: port}
	if d.closed {
		return nil, &net.OpError{Op: "listen", Net: "vsock", Addr: addr, Err: net.ErrClosed}
	}
	if d.listeners[port] != nil {
		return nil, &net.OpError{Op: "listen", Net: "vsock", Addr: addr, Err: syscall.EADDRINUSE}
	}
	l := &Listener{d: d, port: port, backlog: make(chan *Conn, backlog), done: make(chan struct{})}
	d.listeners[port] = l
	return l, nil
}

// Accept returns the next connection, a [*Conn]; its RemoteAddr tells the guest's
// port. After Close the error wraps net.ErrClosed.
func (l *Listener) Accept() (net.Conn, error) {
	select {
	case <-l.done:
	case c := <-l.backlog:
		return c, nil
	}
	return nil, &net.OpError{Op: "accept", Net: "vsock", Addr: l.Addr(), Err: net.ErrClosed}
}

// Addr is the host's CID with the port.
func (l *Listener) Addr() net.Addr { return Addr{CID: HostCID, Port: l.port} }

// Close ends the listener and resets connections that nobody accepted.
func (l *Listener) Close() error {
	l.d.mu.Lock()
	defer l.d.mu.Unlock()
	if l.d.listeners[l.port] != l {
		return &net.OpError{Op: "close", Net: "vsock", Addr: l.Addr(), Err: net.ErrClosed}
	}
	l.end()
	return nil
}

// end removes the listener; the device's mutex is held.
func (l *Listener) end() {
	delete(l.d.listeners, l.port)
	close(l.done)
	for {
		select {
		case c := <-l.backlog:
			c.abort(net.ErrClosed)
			c.closed = true
			l.d.held--
		default:
			return
		}
	}
}
