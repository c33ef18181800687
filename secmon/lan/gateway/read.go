package gateway

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"sync/atomic"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/tcpip/transport/udp"
	"gvisor.dev/gvisor/pkg/waiter"

	"warder/secmon/lan"
	"warder/secmon/lan/packet"
	"warder/secmon/lan/request"
)

// What services say to each other by way of the gateway ends at its stack as what is
// for the outside does, and is said anew, request by request, to the one that it is for.

const (
	// idleRequest is for how long an end may say nothing, in a request or between two.
	idleRequest = 10 * time.Minute
	// lingers is for how long a client may take to end when its server has.
	lingers = 10 * time.Second
	// drained is how much of what such a client still says is taken, in bytes, so that
	// it gets its answer.
	drained = 1 << 20
)

// notDeclared is what a client is answered whose first request is not allowed.
const notDeclared = "HTTP/1.1 403 Forbidden\r\nContent-Type: text/plain\r\nContent-Length: 40\r\nConnection: close\r\n\r\nThis request is not declared (warder).\r\n"

// reads finds the services at both ends of what goes by way of the gateway, and reports
// whether there are rules for it, and room.
func (g *Gateway) reads(id stack.TransportEndpointID, proto uint8) (from, to *lan.Port, at netip.AddrPort, rules []lan.Rule, ok bool) {
	from, at = g.ends(id)
	to = g.asker(at.Addr())
	if from != nil && to != nil {
		rules, _ = g.cfg.Switch.Requests(from, to, proto, at.Port())
	}
	if len(rules) == 0 || !g.knows(from, fromAddress(id.RemoteAddress)) || !g.open.enter(from.Name()) {
		g.counts.refused.Add(1)
		return nil, nil, at, nil, false
	}
	return from, to, at, rules, true
}

// knows has the stack know where a service is that it answers in another's name: nobody is
// asked so.
func (g *Gateway) knows(p *lan.Port, a netip.Addr) bool {
	mac := p.Config().MAC
	if err := g.reader.AddStaticNeighbor(nic, number(a), toAddress(a), tcpip.LinkAddress(mac[:])); err != nil {
		g.counts.failed.Add(1)
		return false
	}
	return true
}

// allows reports whether the rules in force have one service make a request of another.
func (g *Gateway) allows(from, to *lan.Port, proto uint8, port uint16, by func(*lan.Rule) bool) bool {
	list, all := g.cfg.Switch.Requests(from, to, proto, port)
	for i := range list {
		all = all || by(&list[i])
	}
	if !all {
		g.counts.requestsRefused.Add(1)
	}
	return all
}

// readTCP takes a connection from one service to another. The client sees it open when
// the server has opened it.
func (g *Gateway) readTCP(r *tcp.ForwarderRequest) {
	id := r.ID()
	from, to, at, rules, ok := g.reads(id, packet.TCP)
	if !ok {
		r.Complete(true)
		return
	}
	defer g.open.leave(from.Name())
	server, alive, release, err := g.dialHeld(g.ctx, at, g.holdFor(from, to))
	if err != nil {
		g.counts.failed.Add(1)
		r.Complete(true)
		return
	}
	defer release()
	defer server.Close()
	var queue waiter.Queue
	ep, tcpErr := r.CreateEndpoint(&queue)
	if tcpErr != nil {
		r.Complete(true)
		return
	}
	r.Complete(false)
	client := &patient{TCPConn: gonet.NewTCPConn(&queue, ep)}
	defer client.Close()
	g.counts.opened.Add(1)
	back := make(chan struct{})
	g.workers.Go(func() {
		defer close(back)
		answers(client, &patient{TCPConn: server})
	})
	stop := context.AfterFunc(alive, func() { client.Close(); server.Close() })
	defer stop()
	err = g.requests(server, client, from, to, at.Port(), rules[0].DNS != nil)
	var refused *request.Refusal
	if errors.As(err, &refused) {
		g.refuse(from, to, packet.TCP, id, refused)
	}
	switch {
	case err == nil:
		_ = server.CloseWrite() // the answers may go on
		<-back
		return
	case refused != nil && refused.Request != nil && refused.First:
		// No answer of the server's is under way.
		_, _ = client.Write([]byte(notDeclared))
		server.Close()
		<-back
		_, _ = io.CopyN(io.Discard, client, drained)
	default:
		ep.Abort()
		server.Close()
	}
	<-back
}

// holdFor brings up a service for what another says to it, nil if it does not sleep.
func (g *Gateway) holdFor(from, to *lan.Port) Hold {
	if g.cfg.Hold == nil || to.Config().Wake == nil {
		return nil
	}
	return func(ctx context.Context) (context.Context, func(), error) {
		return g.cfg.Hold(ctx, to.Name(), from.Name())
	}
}

// refuse tells of a request from one service to another that is not passed on.
func (g *Gateway) refuse(from, to *lan.Port, proto uint8, id stack.TransportEndpointID, r *request.Refusal) {
	g.cfg.Switch.RequestRefused(lan.RefusedRequest{
		From: from, To: to, VLAN: g.cfg.VLAN, Protocol: proto,
		Source: netip.AddrPortFrom(fromAddress(id.RemoteAddress), id.RemotePort), Destination: netip.AddrPortFrom(fromAddress(id.LocalAddress), id.LocalPort),
		HTTP: r.Request, Name: r.Name, Why: r.Unwrap(),
	})
}

// requests passes on what the rules in force allow.
func (g *Gateway) requests(server, client net.Conn, from, to *lan.Port, port uint16, dns bool) error {
	if dns {
		return request.RelayQuestions(server, client, func(name string) bool { return g.asks(from, to, packet.TCP, port, name) })
	}
	return request.Relay(server, client, func(h *request.Head) bool {
		return g.allows(from, to, packet.TCP, port, func(r *lan.Rule) bool { return r.HTTP != nil && r.HTTP.Allows(h) })
	})
}

func (g *Gateway) asks(from, to *lan.Port, proto uint8, port uint16, name string) bool {
	return g.allows(from, to, proto, port, func(r *lan.Rule) bool { return r.DNS != nil && r.DNS.Allows(name) })
}

// answers copies what the server says, until it ends.
func answers(client, server *patient) {
	_, err := io.CopyBuffer(struct{ io.Writer }{client}, struct{ io.Reader }{server}, make([]byte, relayed))
	if err != nil {
		server.Close()
	}
	_ = client.CloseWrite() // it may have gone
	client.linger.Store(true)
	_ = client.SetReadDeadline(time.Now().Add(lingers)) // it fails as the read does
}

// patient is a connection that is waited for so long at a time.
type patient struct {
	*gonet.TCPConn
	linger atomic.Bool
}

func (p *patient) Read(b []byte) (int, error) {
	wait := idleRequest
	if p.linger.Load() {
		wait = lingers
	}
	_ = p.SetReadDeadline(time.Now().Add(wait)) // it fails as the read does
	return p.TCPConn.Read(b)
}

// readUDP takes questions of DNS from one service to another.
func (g *Gateway) readUDP(r *udp.ForwarderRequest) bool {
	id := r.ID()
	from, to, at, _, ok := g.reads(id, packet.UDP)
	if !ok {
		return false
	}
	var queue waiter.Queue
	ep, err := r.CreateEndpoint(&queue)
	if err != nil {
		g.open.leave(from.Name())
		return false
	}
	client := gonet.NewUDPConn(&queue, ep)
	g.workers.Go(func() {
		defer g.open.leave(from.Name())
		defer client.Close()
		if hold := g.holdFor(from, to); hold != nil {
			alive, release, err := hold(g.ctx)
			if err != nil {
				g.counts.failed.Add(1)
				return
			}
			defer release()
			defer context.AfterFunc(alive, func() { client.Close() })()
		}
		server, err := gonet.DialUDP(g.stack, nil, &tcpip.FullAddress{NIC: nic, Addr: toAddress(at.Addr()), Port: at.Port()}, number(at.Addr()))
		if err != nil {
			g.counts.failed.Add(1)
			return
		}
		defer server.Close()
		g.counts.opened.Add(1)
		g.relayUDP(&questions{
			client, func(name string) bool { return g.asks(from, to, packet.UDP, at.Port(), name) },
			func(r *request.Refusal) { g.refuse(from, to, packet.UDP, id, r) },
		}, server)
	})
	return true
}

// questions is a client of whose datagrams only questions that are allowed are read.
type questions struct {
	net.Conn
	allowed func(name string) bool
	refuse  func(*request.Refusal)
}

func (q *questions) Read(b []byte) (int, error) {
	for {
		n, err := q.Conn.Read(b)
		if err != nil {
			return n, err
		}
		r := request.Ask(b[:n], q.allowed)
		if r == nil {
			return n, nil
		}
		q.refuse(r)
	}
}
