package gateway

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
)

// A Hold brings up what a connection is for and keeps it up until release is called.
// alive ends with it. The error is of what did not come up while ctx lasted.
type Hold func(ctx context.Context) (alive context.Context, release func(), err error)

// Publish has what connects to a listener of the host's reach a port of an address
// inside, until the gateway closes or end is called, which ends those connections and
// closes the listener. With a hold, a connection waits until there is somebody who
// takes it.
func (g *Gateway) Publish(l net.Listener, to netip.AddrPort, hold Hold) (end func()) {
	ctx, cancel := context.WithCancel(g.ctx)
	context.AfterFunc(ctx, func() { l.Close() })
	g.workers.Go(func() {
		for {
			in, err := l.Accept()
			if errors.Is(err, net.ErrClosed) {
				return
			}
			if err != nil { // no file left, most likely
				g.cfg.Log.Warn("published port", "address", l.Addr(), "err", err)
				select {
				case <-time.After(time.Second):
					continue
				case <-ctx.Done():
					return
				}
			}
			g.workers.Go(func() { g.connect(ctx, in, to, hold) })
		}
	})
	return func() {
		cancel()
		l.Close() // when this returns its address is free
	}
}

// connect takes a connection from the host inside.
func (g *Gateway) connect(ctx context.Context, in net.Conn, to netip.AddrPort, hold Hold) {
	defer context.AfterFunc(ctx, func() { in.Close() })()
	name := "published " + to.String()
	if !g.open.enter(name) {
		g.counts.refused.Add(1)
		in.Close()
		return
	}
	defer g.open.leave(name)
	dial := g.dialInside
	if hold != nil {
		alive, release, err := hold(ctx)
		if err != nil { // which who holds has told
			g.counts.failed.Add(1)
			in.Close()
			return
		}
		defer release()
		defer context.AfterFunc(alive, func() { in.Close() })()
		dial = func(ctx context.Context, to netip.AddrPort) (net.Conn, error) { return g.dialWhenReady(ctx, alive, to) }
	}
	soon, cancel := context.WithTimeout(ctx, dialTime)
	out, err := dial(soon, to)
	cancel()
	if err != nil {
		g.counts.failed.Add(1)
		in.Close()
		return
	}
	g.relay(out, in)
}

func (g *Gateway) dialInside(ctx context.Context, to netip.AddrPort) (net.Conn, error) {
	return gonet.DialContextTCP(ctx, g.stack, tcpip.FullAddress{NIC: nic, Addr: toAddress(to.Addr()), Port: to.Port()}, number(to.Addr()))
}

// notReady is the pause before a service that has just come up is tried again.
const notReady = 50 * time.Millisecond

// dialWhenReady tries until a service that comes up takes the connection, or is gone.
func (g *Gateway) dialWhenReady(ctx, alive context.Context, to netip.AddrPort) (net.Conn, error) {
	for {
		c, err := g.dialInside(ctx, to)
		if err == nil {
			return c, nil
		}
		select {
		case <-time.After(notReady):
		case <-alive.Done():
			return nil, err
		case <-ctx.Done():
			return nil, err
		}
	}
}
