package network

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"sync"

	vnet "warder/devices/virtio/net"
	"warder/devices/virtio/net/tap"
	"warder/secmon/lan"
	"warder/secmon/lan/gateway"
	"warder/secmon/lan/uplink"
	"warder/supervisor"
	"warder/supervisor/declaration"
)

// Options are what else a network is made with.
type Options struct {
	// Inspector sees all frames. Default: none.
	Inspector lan.Inspector
	// Hold brings up a service that is started on demand, see [Service.OnDemand].
	Hold Hold
	// Kept are services that were put on a LAN before this one, and will be on this one, with
	// the addresses that they had. Those are given to no others that do not ask for them.
	Kept map[string][]netip.Addr
	// Log is told what goes wrong. Default: slog.Default.
	Log *slog.Logger
}

// A Hold brings up a service and keeps it up until release is called; alive ends with its
// VM. Peer is who on the LAN begins a conversation with it, "" for who connects to a port that
// it publishes.
type Hold func(ctx context.Context, service, peer string) (alive context.Context, release func(), err error)

// A Network is a LAN that is up. It is safe for concurrent use. A nil one has no
// services.
type Network struct {
	lan     *lan.Switch
	vlans   []*vlan
	closers []func() error
	hold    Hold
	waker   *waker
	log     *slog.Logger

	mu       sync.Mutex
	services map[string]*service
	taken    addresses
	kept     map[string]bool     // that were on a LAN before, and are not on this one yet
	allow    []declaration.Allow // in force, beside what services say of themselves
	rules    []lan.Rule          // what that comes to
}

type vlan struct {
	VLAN
	gateway *gateway.Gateway
	uplink  *lan.Port // nil if it has none
}

// New brings a LAN up, with a port for each service.
func New(cfg Config, services []Service, opt Options) (*Network, error) {
	cfg.VLANs = slices.Clone(cfg.VLANs)
	if err := cfg.check(); err != nil {
		return nil, fmt.Errorf("lan: %w", err)
	}
	if opt.Log == nil {
		opt.Log = slog.Default()
	}
	n := &Network{
		lan: lan.New(lan.Config{Inspector: opt.Inspector}), hold: opt.Hold, log: opt.Log,
		services: make(map[string]*service), taken: make(addresses), kept: make(map[string]bool),
	}
	n.waker = newWaker(n.lan, opt.Hold)
	err := n.open(cfg, services, opt)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("lan: %w", err), n.Close())
	}
	return n, nil
}

func (n *Network) open(cfg Config, services []Service, opt Options) error {
	var inside []netip.Prefix
	for _, v := range cfg.VLANs {
		inside = append(inside, v.networks()...)
	}
	for _, v := range cfg.VLANs {
		up, err := n.uplink(&v)
		if err != nil {
			return err
		}
		g, err := gateway.New(gateway.Config{
			Switch: n.lan, VLAN: v.ID, Name: "gateway." + v.Name, Networks: v.networks(), Inside: inside, MTU: v.MTU, Hold: opt.Hold, Log: opt.Log,
		})
		if err != nil {
			return err
		}
		n.closers = append(n.closers, g.Close)
		n.taken.set(g.Port().Name(), g.Addresses())
		n.vlans = append(n.vlans, &vlan{VLAN: v, gateway: g, uplink: up})
	}
	for _, s := range services { // the addresses that were asked for are not given to others
		if n.vlan(s.VLAN) != nil {
			n.taken.claim(s.Name, s.Address)
			n.taken.claim(s.Name, s.Address6)
		}
	}
	for name, list := range opt.Kept {
		n.kept[name] = true
		for _, a := range list {
			n.taken.claim(name, a)
		}
	}
	for _, s := range services {
		if err := n.start(s); err != nil {
			return fmt.Errorf("%s: %w", s.Name, err)
		}
	}
	for _, s := range services {
		if err := n.declares(n.services[s.Name]); err != nil {
			return fmt.Errorf("%s: %w", s.Name, err)
		}
	}
	n.setEgress()
	return n.SetAllow(cfg.Allow)
}

// start gives a service its place on a LAN that comes up.
func (n *Network) start(s Service) error {
	out, err := n.prepare(s, nil)
	if err == nil {
		out.port, err = n.lan.AddPort(out.cfg)
	}
	if err != nil {
		out.unpublish(nil)
		return err
	}
	out.net.Port = out.port
	n.services[s.Name] = out
	delete(n.kept, s.Name)
	n.publish(out)
	return nil
}

// declares looks at what a service says of others, who have to be there when it is declared.
// That of one which was declared before is as it was: they may have gone since, or come later.
func (n *Network) declares(s *service) (err error) {
	known := func(name string) bool { return n.kept[s.Name] || name == s.Name || n.has(name) }
	for _, name := range s.Mirror {
		if name != lan.Everybody && n.services[name] == nil && !n.kept[s.Name] {
			return fmt.Errorf("mirror: no service %s is on the LAN", name)
		}
	}
	s.rules, err = rules(ofItself(s.Name, s.Allow), known)
	return err
}

// uplink joins a VLAN with its uplink, and gives the port, nil if it has none.
func (n *Network) uplink(v *VLAN) (*lan.Port, error) {
	if v.Uplink == "" {
		return nil, nil
	}
	t, err := tap.Open(v.Uplink, 1)
	if err != nil {
		return nil, err
	}
	if v.MTU == 0 {
		v.MTU = min(t.MTU(), vnet.MaxMTU)
	}
	p, err := n.lan.AddPort(lan.PortConfig{Name: uplinkPrefix + v.Name, VLAN: v.ID, Uplink: true})
	if err != nil {
		return nil, errors.Join(err, t.Close())
	}
	u, err := uplink.Join(p, t)
	if err != nil {
		return nil, err
	}
	n.closers = append(n.closers, u.Close)
	return p, nil
}

func (v VLAN) networks() []netip.Prefix {
	if v.Network6.IsValid() {
		return []netip.Prefix{v.Network, v.Network6}
	}
	return []netip.Prefix{v.Network}
}

func (n *Network) vlan(name string) *vlan {
	for _, v := range n.vlans {
		if v.Name == name {
			return v
		}
	}
	return nil
}

// Switch is the switch under the network.
func (n *Network) Switch() *lan.Switch { return n.lan }

// Port is a service's port, nil if it has none.
func (n *Network) Port(name string) *lan.Port {
	if n == nil {
		return nil
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if s := n.services[name]; s != nil {
		return s.port
	}
	return nil
}

// Interface is a service's network interface, for its VM.
func (n *Network) Interface(name string) (supervisor.Net, bool) {
	if n == nil {
		return supervisor.Net{}, false
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if s := n.services[name]; s != nil {
		return s.net, true
	}
	return supervisor.Net{}, false
}

// Close takes the network down. No VM uses it any more.
func (n *Network) Close() error {
	if n == nil {
		return nil
	}
	n.mu.Lock()
	for _, s := range n.services {
		s.unpublish(nil)
	}
	n.mu.Unlock()
	n.waker.close()
	var errs []error
	for _, c := range slices.Backward(n.closers) {
		errs = append(errs, c())
	}
	return errors.Join(errs...)
}
