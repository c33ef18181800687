package gateway

import (
	"context"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"

	"golang.org/x/net/dns/dnsmessage"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"

	"warder/secmon/lan"
	"warder/secmon/lan/packet"
)

const (
	// domain is where services have their names; without it they are known as well.
	domain  = "lan"
	dnsPort = 53
	// maxQuestion bounds a question in bytes, maxAsked how many are being answered.
	maxQuestion = 1232
	maxAsked    = 64
	lookupTime  = 5 * time.Second
	// nameTTL is how long an answer may be kept, in seconds.
	nameTTL = 60
)

// serveNames answers questions for names at each of the gateway's addresses.
func (g *Gateway) serveNames() error {
	slots := make(chan struct{}, maxAsked)
	for _, a := range g.addrs {
		conn, err := gonet.DialUDP(g.stack, &tcpip.FullAddress{NIC: nic, Addr: toAddress(a), Port: dnsPort}, nil, number(a))
		if err != nil {
			return err
		}
		g.onClose(conn.Close)
		g.workers.Go(func() { g.answerNames(conn, slots) })
	}
	return nil
}

func (g *Gateway) answerNames(conn *gonet.UDPConn, slots chan struct{}) {
	b := make([]byte, maxQuestion)
	for {
		n, from, err := conn.ReadFrom(b)
		if err != nil {
			return
		}
		who, ok := from.(*net.UDPAddr)
		if !ok {
			continue
		}
		select {
		case slots <- struct{}{}:
		default:
			g.counts.nameRefused.Add(1)
			continue
		}
		question := slices.Clone(b[:n])
		g.workers.Go(func() {
			defer func() { <-slots }()
			if answer := g.answerName(who.AddrPort().Addr().Unmap(), question); answer != nil {
				_, _ = conn.WriteTo(answer, from) // who asks, asks again
			}
		})
	}
}

// answerName is the answer to a question of DNS (RFC 1035), nil for none.
func (g *Gateway) answerName(from netip.Addr, question []byte) []byte {
	var p dnsmessage.Parser
	h, err := p.Start(question)
	if err != nil || h.Response {
		return nil
	}
	q, err := p.Question()
	if err != nil {
		return nil
	}
	answer := dnsmessage.Message{
		Header:    dnsmessage.Header{ID: h.ID, Response: true, OpCode: h.OpCode, RecursionDesired: h.RecursionDesired, RecursionAvailable: true},
		Questions: []dnsmessage.Question{q},
	}
	var addrs []netip.Addr
	if h.OpCode != 0 || q.Class != dnsmessage.ClassINET {
		answer.RCode = dnsmessage.RCodeNotImplemented
	} else {
		addrs, answer.RCode = g.resolve(from, strings.ToLower(strings.TrimSuffix(q.Name.String(), ".")))
	}
	for _, a := range addrs {
		r := dnsmessage.Resource{Header: dnsmessage.ResourceHeader{Name: q.Name, Class: q.Class, TTL: nameTTL}}
		switch {
		case a.Is4() && q.Type == dnsmessage.TypeA:
			r.Body = &dnsmessage.AResource{A: a.As4()}
		case a.Is6() && q.Type == dnsmessage.TypeAAAA:
			r.Body = &dnsmessage.AAAAResource{AAAA: a.As16()}
		default:
			continue
		}
		answer.Answers = append(answer.Answers, r)
	}
	b, err := answer.Pack()
	if err != nil {
		return nil
	}
	return b
}

// resolve is what a name means to who asks.
func (g *Gateway) resolve(from netip.Addr, name string) ([]netip.Addr, dnsmessage.RCode) {
	p := g.asker(from)
	if p == nil {
		return nil, dnsmessage.RCodeRefused
	}
	if service, inside := strings.CutSuffix(name, "."+domain); inside || !strings.Contains(name, ".") {
		addrs, known := g.service(p, service)
		if !known {
			g.counts.nameRefused.Add(1)
			return nil, dnsmessage.RCodeNameError
		}
		g.counts.resolved.Add(1)
		return addrs, dnsmessage.RCodeSuccess
	}
	named, may := g.mayResolve(p, name)
	if !may || p.IsIsolated() {
		g.counts.nameRefused.Add(1)
		r := lan.RefusedRequest{From: p, VLAN: g.cfg.VLAN, Protocol: packet.UDP, Source: netip.AddrPortFrom(from, 0), Name: name}
		for _, a := range g.addrs {
			if a.Is4() == from.Is4() {
				r.Destination = netip.AddrPortFrom(a, dnsPort)
			}
		}
		g.cfg.Switch.RequestRefused(r)
		return nil, dnsmessage.RCodeRefused
	}
	ctx, cancel := context.WithTimeout(g.ctx, lookupTime)
	defer cancel()
	all, err := g.cfg.Lookup(ctx, name)
	if err != nil {
		if dns, ok := err.(*net.DNSError); ok && dns.IsNotFound {
			return nil, dnsmessage.RCodeNameError
		}
		return nil, dnsmessage.RCodeServerFailure
	}
	var addrs []netip.Addr
	for _, a := range all {
		a = a.Unmap()
		// What an address outside is inside would be a way around the rules.
		if !g.outside(a) || !(named && g.pins.add(p, name, a, time.Now())) && !g.reachable(p, a) {
			continue
		}
		addrs = append(addrs, a)
	}
	g.counts.resolved.Add(1)
	return addrs, dnsmessage.RCodeSuccess
}

// service is the addresses, in this VLAN, of a service that who asks may reach, or is.
func (g *Gateway) service(p *lan.Port, name string) (addrs []netip.Addr, known bool) {
	for _, to := range append(g.cfg.Switch.Reachable(p), p) {
		if to.Name() != name && !(to == g.port && name == "gateway") || !slices.Contains(to.VLANs(), g.cfg.VLAN) {
			continue
		}
		for _, a := range to.Config().Addresses {
			if slices.ContainsFunc(g.cfg.Networks, func(n netip.Prefix) bool { return n.Contains(a) }) {
				addrs = append(addrs, a)
			}
		}
		return addrs, true
	}
	return nil, false
}
