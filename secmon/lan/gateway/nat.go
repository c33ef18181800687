package gateway

import (
	"context"
	"io"
	"maps"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/tcpip/transport/udp"
	"gvisor.dev/gvisor/pkg/waiter"

	"warder/secmon/lan"
	"warder/secmon/lan/packet"
)

const (
	// maxOpening is how many connections may be being made, maxOpen how many one
	// service may have open, so that it does not take all files of the host's.
	maxOpening = 256
	maxOpen    = 512
	dialTime   = 30 * time.Second
	// idleUDP is for how long a flow of UDP stays open in which nothing passes.
	idleUDP = 3 * time.Minute
	// relayed is how much is copied at a time, in bytes.
	relayed = 128 << 10
)

// openConns are the connections of services.
type openConns struct {
	mu  sync.Mutex
	of  map[string]int         // how many
	out map[*outgoing]struct{} // those to the outside
}

// keep has a connection ended when it is not declared any more.
func (g *Gateway) keep(o *outgoing, end func()) (done func()) {
	o.end = end
	g.open.mu.Lock()
	g.open.out[o] = struct{}{}
	g.open.mu.Unlock()
	if !g.allowed(o) { // since it was admitted
		end()
	}
	return func() {
		g.open.mu.Lock()
		defer g.open.mu.Unlock()
		delete(g.open.out, o)
	}
}

func (o *openConns) all() []*outgoing {
	o.mu.Lock()
	defer o.mu.Unlock()
	return slices.Collect(maps.Keys(o.out))
}

func (o *openConns) enter(name string) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.of[name] >= maxOpen {
		return false
	}
	o.of[name]++
	return true
}

func (o *openConns) leave(name string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.of[name]--; o.of[name] == 0 {
		delete(o.of, name)
	}
}

// forward has a stack hand over what is not for the gateway itself.
func forward(st *stack.Stack, acceptTCP func(*tcp.ForwarderRequest), acceptUDP func(*udp.ForwarderRequest) bool) {
	t := tcp.NewForwarder(st, 0, maxOpening, acceptTCP)
	st.SetTransportProtocolHandler(tcp.ProtocolNumber, t.HandlePacket)
	u := udp.NewForwarder(st, acceptUDP)
	st.SetTransportProtocolHandler(udp.ProtocolNumber, u.HandlePacket)
}

// ends are the service that opens something, and where to.
func (g *Gateway) ends(id stack.TransportEndpointID) (p *lan.Port, to netip.AddrPort) {
	return g.asker(fromAddress(id.RemoteAddress)), netip.AddrPortFrom(fromAddress(id.LocalAddress), id.LocalPort)
}

// admit reports whether a service may open one more connection there.
func (g *Gateway) admit(p *lan.Port, proto uint8, to netip.AddrPort) bool {
	if p == nil || !g.mayReach(p, proto, to) || !g.open.enter(p.Name()) {
		g.counts.refused.Add(1)
		return false
	}
	return true
}

// acceptTCP is called for a first SYN. A connection that may not be, or that the
// outside does not take, is reset; else the guest sees it open when it is.
func (g *Gateway) acceptTCP(r *tcp.ForwarderRequest) {
	p, to := g.ends(r.ID())
	if !g.admit(p, packet.TCP, to) {
		r.Complete(true)
		return
	}
	defer g.open.leave(p.Name())
	o := g.outgoing(p, packet.TCP, to)
	ctx, cancel := context.WithTimeout(g.ctx, dialTime)
	defer cancel()
	out, err := g.cfg.Dial(ctx, "tcp", to.String())
	if err != nil {
		g.counts.failed.Add(1)
		r.Complete(true)
		return
	}
	var queue waiter.Queue
	ep, tcpErr := r.CreateEndpoint(&queue)
	if tcpErr != nil {
		r.Complete(true)
		out.Close()
		return
	}
	r.Complete(false)
	g.counts.opened.Add(1)
	in := gonet.NewTCPConn(&queue, ep)
	defer g.keep(o, func() { ep.Abort(); out.Close() })()
	g.relay(in, out)
}

// halfCloser is a connection whose directions end one by one.
type halfCloser interface{ CloseWrite() error }

// relay copies both ways until both have ended, or the gateway closes.
func (g *Gateway) relay(a, b net.Conn) {
	stop := context.AfterFunc(g.ctx, func() { a.Close(); b.Close() })
	defer stop()
	var both sync.WaitGroup
	pipe := func(to, from net.Conn) {
		_, err := io.CopyBuffer(struct{ io.Writer }{to}, struct{ io.Reader }{from}, make([]byte, relayed))
		if c, ok := to.(halfCloser); ok && err == nil {
			_ = c.CloseWrite() // the other side has gone
			return
		}
		a.Close()
		b.Close()
	}
	both.Go(func() { pipe(a, b) })
	pipe(b, a)
	both.Wait()
	a.Close()
	b.Close()
}

// acceptUDP is called for a first datagram. What may not be is answered by the stack:
// there is nothing at that port.
func (g *Gateway) acceptUDP(r *udp.ForwarderRequest) bool {
	p, to := g.ends(r.ID())
	if !g.admit(p, packet.UDP, to) {
		return false
	}
	var queue waiter.Queue
	ep, err := r.CreateEndpoint(&queue)
	if err != nil {
		g.open.leave(p.Name())
		return false
	}
	in := gonet.NewUDPConn(&queue, ep)
	o := g.outgoing(p, packet.UDP, to)
	g.workers.Go(func() {
		defer g.open.leave(p.Name())
		defer in.Close()
		out, err := g.cfg.Dial(g.ctx, "udp", to.String())
		if err != nil {
			g.counts.failed.Add(1)
			return
		}
		defer out.Close()
		g.counts.opened.Add(1)
		defer g.keep(o, func() { in.Close(); out.Close() })()
		g.relayUDP(in, out)
	})
	return true
}

// relayUDP copies datagrams both ways until none has come for a while.
func (g *Gateway) relayUDP(a, b net.Conn) {
	stop := context.AfterFunc(g.ctx, func() { a.Close(); b.Close() })
	defer stop()
	var both sync.WaitGroup
	pipe := func(to, from net.Conn) {
		defer a.Close()
		defer b.Close()
		buf := make([]byte, 1<<16)
		for {
			_ = from.SetReadDeadline(time.Now().Add(idleUDP)) // it fails as the read does
			n, err := from.Read(buf)
			if err != nil {
				return
			}
			if _, err := to.Write(buf[:n]); err != nil {
				return
			}
		}
	}
	both.Go(func() { pipe(a, b) })
	pipe(b, a)
	both.Wait()
}
