package gateway

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"warder/secmon/lan"
	"warder/secmon/lan/packet"
)

// Egress lets a service reach something outside.
type Egress struct {
	// Networks are where to; Names are names that are resolved by this gateway, of
	// which *.example.org is all that end so. One of them is given.
	Networks []netip.Prefix
	Names    []string
	// Proto is packet.TCP or packet.UDP, 0 for both.
	Proto uint8
	// First and Last are ports, both 0 for all.
	First, Last uint16
}

// Validate reports what is wrong with a rule.
func (e Egress) Validate() error {
	switch {
	case len(e.Networks) == 0 && len(e.Names) == 0:
		return fmt.Errorf("say where to: give networks or names")
	case e.Proto != 0 && e.Proto != packet.TCP && e.Proto != packet.UDP:
		return fmt.Errorf("only TCP and UDP go outside")
	case e.First > e.Last:
		return fmt.Errorf("ports %d to %d: give the lower first", e.First, e.Last)
	}
	for _, n := range e.Names {
		if strings.Contains(strings.TrimPrefix(n, "*."), "*") || strings.Trim(n, ".*") == "" {
			return fmt.Errorf("name %q: give a name, or *. and the end of one", n)
		}
	}
	return nil
}

func (e Egress) port(proto uint8, port uint16) bool {
	return (e.Proto == 0 || e.Proto == proto) && (e.Last == 0 || e.First <= port && port <= e.Last)
}

// names reports whether a rule is for a name, which has no dot at its end.
func (e Egress) named(name string) bool {
	return slices.ContainsFunc(e.Names, func(n string) bool {
		n = strings.ToLower(strings.TrimSuffix(n, "."))
		if end, ok := strings.CutPrefix(n, "*"); ok {
			return strings.HasSuffix(name, end) && name != end[1:]
		}
		return n == name
	})
}

func (e Egress) network(a netip.Addr) bool {
	return slices.ContainsFunc(e.Networks, func(n netip.Prefix) bool { return n.Contains(a) })
}

// SetEgress replaces what services may reach outside, by the names of their ports.
// Connections that are open and still allowed stay open; others end.
func (g *Gateway) SetEgress(by map[string][]Egress) {
	by = maps.Clone(by)
	g.egress.Store(&by)
	for _, o := range g.open.all() {
		if !g.allowed(o) {
			o.end()
		}
	}
}

// outside reports whether an address is one that could be reached through the gateway
// at all: not of the host alone, nor of a VLAN.
func (g *Gateway) outside(a netip.Addr) bool {
	if !a.IsValid() || a.IsUnspecified() || a.IsLoopback() || a.IsMulticast() || a.IsLinkLocalUnicast() || a == netip.AddrFrom4([4]byte{255, 255, 255, 255}) {
		return false
	}
	return !slices.ContainsFunc(g.cfg.Inside, func(n netip.Prefix) bool { return n.Contains(a) })
}

// mayReach reports whether a service may reach an address outside, by a network or
// by a name that it was told the address of.
func (g *Gateway) mayReach(p *lan.Port, proto uint8, to netip.AddrPort) bool {
	return g.outside(to.Addr().Unmap()) && !p.IsIsolated() && g.allowed(g.outgoing(p, proto, to))
}

// outgoing is a connection of a service's to the outside. What it was told the address
// for goes on for as long as it is open.
type outgoing struct {
	name  string // of its port
	proto uint8
	to    netip.AddrPort
	names []string // for which the service was told the address
	end   func()
}

func (g *Gateway) outgoing(p *lan.Port, proto uint8, to netip.AddrPort) *outgoing {
	return &outgoing{name: p.Name(), proto: proto, to: to, names: g.pins.names(p, to.Addr().Unmap(), time.Now())}
}

// allowed reports whether a connection is declared now.
func (g *Gateway) allowed(o *outgoing) bool {
	return slices.ContainsFunc((*g.egress.Load())[o.name], func(e Egress) bool {
		return e.port(o.proto, o.to.Port()) && (e.network(o.to.Addr().Unmap()) || slices.ContainsFunc(o.names, e.named))
	})
}

// mayResolve reports whether a service may ask for a name outside: one that it may
// reach, or any if it may reach networks. Of the addresses it gets those that it may
// reach.
func (g *Gateway) mayResolve(p *lan.Port, name string) (named, any bool) {
	for _, e := range (*g.egress.Load())[p.Name()] {
		named = named || e.named(name)
		any = any || len(e.Networks) > 0
	}
	return named, any || named
}

// reachable reports whether a service may reach an address by any of its networks.
func (g *Gateway) reachable(p *lan.Port, a netip.Addr) bool {
	return g.outside(a) && slices.ContainsFunc((*g.egress.Load())[p.Name()], func(e Egress) bool { return e.network(a) })
}

// pins are which names services were told addresses for.
type pins struct {
	mu sync.Mutex
	by map[pinned]pin
	of map[int]int // how many a port has
}

type pinned struct {
	port int
	addr netip.Addr
	name string
}

type pin struct{ until time.Time }

const (
	// pinTime is how long an address may be used after it was given for a name, at
	// least: programs keep addresses for longer than they are told.
	pinTime = time.Hour
	// maxPins is how many addresses are known of one service.
	maxPins = 1024
)

// add notes that a port was told an address for a name. It fails if there are too
// many.
func (s *pins) add(p *lan.Port, name string, a netip.Addr, now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.of == nil {
		s.of = make(map[int]int)
	}
	k := pinned{p.ID(), a, name}
	if _, known := s.by[k]; !known {
		if s.of[p.ID()] == maxPins {
			s.expire(p.ID(), now)
		}
		if s.of[p.ID()] == maxPins {
			return false
		}
		s.of[p.ID()]++
	}
	s.by[k] = pin{now.Add(pinTime)}
	return true
}

func (s *pins) forget(port int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	maps.DeleteFunc(s.by, func(k pinned, _ pin) bool { return k.port == port })
	delete(s.of, port)
}

func (s *pins) expire(port int, now time.Time) {
	for k, v := range s.by {
		if k.port == port && now.After(v.until) {
			delete(s.by, k)
			s.of[port]--
		}
	}
}

// names are those that a port was told an address for.
func (s *pins) names(p *lan.Port, a netip.Addr, now time.Time) (names []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for k, v := range s.by {
		if k.port == p.ID() && k.addr == a && now.Before(v.until) {
			names = append(names, k.name)
		}
	}
	return names
}

type counts struct {
	ignored, leases, resolved, nameRefused, opened, refused, failed, requestsRefused, adverts atomic.Uint64
}

// Stats counts what a gateway has done.
type Stats struct {
	Leases      uint64 `json:"leases"`        // answers of DHCP
	Resolved    uint64 `json:"resolved"`      // names
	NameRefused uint64 `json:"names_refused"` // names that the asker may not resolve
	Opened      uint64 `json:"opened"`        // connections and UDP flows to the outside
	Refused     uint64 `json:"refused"`       // that are not declared, or too many
	Failed      uint64 `json:"failed"`        // that the outside did not take
	Ignored     uint64 `json:"ignored"`       // frames that are nothing to the gateway
	// RequestsRefused are requests from one service to another that are not declared.
	RequestsRefused uint64 `json:"requests_refused"`
	Adverts         uint64 `json:"adverts"` // of the router, to one port each
}

// Stats may be called at any time.
func (g *Gateway) Stats() Stats {
	c := &g.counts
	return Stats{c.leases.Load(), c.resolved.Load(), c.nameRefused.Load(), c.opened.Load(), c.refused.Load(), c.failed.Load(), c.ignored.Load(), c.requestsRefused.Load(), c.adverts.Load()}
}
