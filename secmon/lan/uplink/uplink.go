// Package uplink joins a port of the switch to an interface of the host's, for those
// who want their VMs on a network that others are on too.
package uplink

import (
	"errors"
	"io"

	"warder/devices/virtio/net"
	"warder/secmon/lan"
)

// An Interface is a network of the host's, as a TAP is. It releases a frame before its
// Send returns.
type Interface interface {
	net.Port
	io.Closer
}

// An Uplink carries frames between a port and an interface, both ways.
type Uplink struct {
	port  *lan.Port
	iface Interface
}

// Join joins them. The uplink owns the interface from then on.
func Join(p *lan.Port, i Interface) (*Uplink, error) {
	u := &Uplink{p, i}
	if err := p.Start(outward{u}); err != nil {
		return nil, err
	}
	if err := i.Start(inward{u}); err != nil {
		p.Stop()
		return nil, errors.Join(err, i.Close())
	}
	return u, nil
}

// Close parts them.
func (u *Uplink) Close() error {
	u.iface.Stop()
	u.port.Stop()
	return u.iface.Close()
}

// outward takes frames of the switch to the interface.
type outward struct{ *Uplink }

// Queue implements net.Receiver. With one queue nothing is sent at once.
func (outward) Queue(*net.Frame) int { return 0 }

// Deliver implements net.Receiver. What the interface releases is not f, which
// stays its sender's.
func (o outward) Deliver(_ int, f *net.Frame, _ int) (int, error) {
	o.iface.Send(&net.Frame{Offload: f.Offload, Head: f.Head, Body: f.Body, Len: f.Len})
	return 0, nil
}

// inward takes frames of the interface to the switch.
type inward struct{ *Uplink }

// Queue implements net.Receiver.
func (inward) Queue(*net.Frame) int { return 0 }

// Deliver implements net.Receiver. The interface uses its memory again when this
// returns, while the frame may wait for whom it is for; so it is copied.
func (i inward) Deliver(_ int, f *net.Frame, _ int) (int, error) {
	b := append(make([]byte, 0, f.Len), f.Head...)
	for _, p := range f.Body {
		b = append(b, p...)
	}
	c := new(net.Frame)
	c.Fill(b)
	c.Offload = f.Offload
	i.port.Send(c)
	return 0, nil
}
