package gateway

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
)

// A Hold brings up what a connection is for and keeps it up until release is called.
// alive ends with it. The error is of what did not come up while ctx lasted.
type Hold func(ctx context.Context) (alive context.Context, release func(), err error)

// Published is a port of the host's that leads inside. It is safe for concurrent use.
type Published struct {
	listener net.Listener
	lead     atomic.Pointer[lead] // nil while it leads nowhere
	begin    sync.Once
	work     sync.WaitGroup
}

type lead struct {
	gateway *Gateway
	to      netip.AddrPort
	hold    Hold
	ctx     context.Context
	end     context.CancelFunc
}

// NewPublished makes one of a listener, at which nothing is taken until it leads somewhere.
func NewPublished(l net.Listener) *Published { return &Published{listener: l} }

// Addr is the address of the host's.
func (p *Published) Addr() net.Addr { return p.listener.Addr() }

// Lead has what connects from now on reach a port of an address inside, by that VLAN's
// gateway, until that closes. Where it led before, connections end. With a hold, a
// connection waits until there is somebody who takes it.
func (p *Published) Lead(g *Gateway, to netip.AddrPort, hold Hold) {
	next := &lead{gateway: g, to: to, hold: hold}
	next.ctx, next.end = context.WithCancel(g.ctx)
	if before := p.lead.Swap(next); before != nil {
		before.end()
	}
	p.begin.Do(func() { p.work.Go(p.accept) })
}

// Close ends all connections. When it returns the address is free.
func (p *Published) Close() {
	if l := p.lead.Load(); l != nil {
		l.end()
	}
	p.listener.Close()
	p.work.Wait()
}

func (p *Published) accept() {
	for {
		in, err := p.listener.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		l := p.lead.Load()
		if err != nil { // no file left, most likely
			l.gateway.cfg.Log.Warn("published port", "address", p.Addr(), "err", err)
			select {
			case <-time.After(time.Second):
			case <-l.ctx.Done():
			}
			continue
		}
		l.gateway.workers.Go(func() { l.gateway.connect(l.ctx, in, l.to, l.hold) })
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
	out, alive, release, err := g.dialHeld(ctx, to, hold)
	if err != nil {
		g.counts.failed.Add(1)
		in.Close()
		return
	}
	defer release()
	defer context.AfterFunc(alive, func() { in.Close() })()
	g.relay(out, in)
}

// dialHeld connects to a service, which hold brings up first if it is not nil. The
// connection is of no use when alive ends; release lets go of the service. Who holds it has
// told why it did not come up.
func (g *Gateway) dialHeld(ctx context.Context, to netip.AddrPort, hold Hold) (c *gonet.TCPConn, alive context.Context, release func(), err error) {
	alive, release = ctx, func() {}
	dial := g.dialInside
	if hold != nil {
		if alive, release, err = hold(ctx); err != nil {
			return nil, nil, nil, err
		}
		dial = func(ctx context.Context, to netip.AddrPort) (*gonet.TCPConn, error) {
			return g.dialWhenReady(ctx, alive, to)
		}
	}
	soon, cancel := context.WithTimeout(ctx, dialTime)
	defer cancel()
	if c, err = dial(soon, to); err != nil {
		release()
		return nil, nil, nil, err
	}
	return c, alive, release, nil
}

func (g *Gateway) dialInside(ctx context.Context, to netip.AddrPort) (*gonet.TCPConn, error) {
	return gonet.DialContextTCP(ctx, g.stack, tcpip.FullAddress{NIC: nic, Addr: toAddress(to.Addr()), Port: to.Port()}, number(to.Addr()))
}

// notReady is the pause before a service that has just come up is tried again.
const notReady = 50 * time.Millisecond

// dialWhenReady tries until a service that comes up takes the connection, or is gone.
func (g *Gateway) dialWhenReady(ctx, alive context.Context, to netip.AddrPort) (*gonet.TCPConn, error) {
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
