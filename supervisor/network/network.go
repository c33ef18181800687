package network

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"sync"

	vnet "warder/devices/virtio/net"
	"warder/devices/virtio/net/tap"
	"warder/secmon/lan"
	"warder/secmon/lan/gateway"
	"warder/secmon/lan/uplink"
	"warder/supervisor"
	"warder/vmm"
)

// A Service is a service with its part of the LAN.
type Service struct {
	Name string
	Member
}

// Options are what else a network is made with.
type Options struct {
	// Inspector sees all frames. Default: none.
	Inspector lan.Inspector
	// Log is told what goes wrong. Default: slog.Default.
	Log *slog.Logger
}

// A Network is a LAN that is up. It is safe for concurrent use. A nil one has no
// services.
type Network struct {
	lan      *lan.Switch
	vlans    []*vlan
	services map[string]*service
	closers  []func() error

	mu    sync.Mutex
	allow []Allow // in force
}

type vlan struct {
	VLAN
	gateway *gateway.Gateway
	uplink  *lan.Port // nil if it has none
	taken   map[netip.Addr]bool
}

type service struct {
	Service
	vlan      *vlan
	port      *lan.Port
	net       supervisor.Net
	published []string
}

// New brings a LAN up, with a port for each service.
func New(cfg Config, services []Service, opt Options) (*Network, error) {
	cfg.VLANs = slices.Clone(cfg.VLANs)
	if err := cfg.check(); err != nil {
		return nil, fmt.Errorf("lan: %w", err)
	}
	n := &Network{lan: lan.New(lan.Config{Inspector: opt.Inspector}), services: make(map[string]*service)}
	err := n.start(cfg, services, opt)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("lan: %w", err), n.Close())
	}
	return n, nil
}

func (n *Network) start(cfg Config, services []Service, opt Options) error {
	var inside []netip.Prefix
	for _, v := range cfg.VLANs {
		inside = append(inside, v.networks()...)
	}
	for _, v := range cfg.VLANs {
		up, err := n.join(&v)
		if err != nil {
			return err
		}
		g, err := gateway.New(gateway.Config{
			Switch: n.lan, VLAN: v.ID, Name: "gateway." + v.Name, Networks: v.networks(), Inside: inside, MTU: v.MTU, Log: opt.Log,
		})
		if err != nil {
			return err
		}
		n.closers = append(n.closers, g.Close)
		v := &vlan{VLAN: v, gateway: g, uplink: up, taken: make(map[netip.Addr]bool)}
		for _, a := range g.Addresses() {
			v.taken[a] = true
		}
		n.vlans = append(n.vlans, v)
	}
	for _, s := range services { // the addresses that were asked for are not given to others
		if v := n.vlan(s.VLAN); v != nil {
			v.taken[s.Address], v.taken[s.Address6] = true, true
		}
	}
	egress := make(map[string][]gateway.Egress)
	for _, s := range services {
		e, err := s.egress()
		if err == nil {
			egress[s.Name] = e
			err = n.add(s)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", s.Name, err)
		}
	}
	for _, v := range n.vlans {
		v.gateway.SetEgress(egress)
	}
	return n.SetAllow(cfg.Allow)
}

// join joins a VLAN with its uplink, and gives the port, nil if it has none.
func (n *Network) join(v *VLAN) (*lan.Port, error) {
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
	p, err := n.lan.AddPort(lan.PortConfig{Name: "uplink." + v.Name, VLAN: v.ID, Uplink: true})
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

// add gives a service its port.
func (n *Network) add(s Service) error {
	v := n.vlan(s.VLAN)
	if v == nil {
		return fmt.Errorf("there is no VLAN %q", s.VLAN)
	}
	rate, err := s.rate()
	if err != nil {
		return err
	}
	for _, a := range []struct {
		addr    *netip.Addr
		network netip.Prefix
	}{{&s.Address, v.Network}, {&s.Address6, v.Network6}} {
		if !a.network.IsValid() && !a.addr.IsValid() {
			continue
		}
		if *a.addr, err = v.address(*a.addr, a.network); err != nil {
			return err
		}
	}
	out := &service{Service: s, vlan: v}
	out.net = supervisor.Net{Net: vmm.Net{MAC: vmm.DefaultMAC("lan of "+s.Name, 0), MTU: v.MTU}, DHCP: s.DHCP}
	cfg := lan.PortConfig{Name: s.Name, VLAN: v.ID, MAC: out.net.MAC, Isolated: s.Isolated, Rate: rate, Priority: s.Priority}
	for i, network := range v.networks() {
		a, own := s.Address, v.gateway.Addresses()[i]
		if network.Addr().Is6() {
			a = s.Address6
		}
		cfg.Addresses = append(cfg.Addresses, a)
		if a.Is4() && s.DHCP {
			continue
		}
		out.net.Addresses = append(out.net.Addresses, netip.PrefixFrom(a, network.Bits()))
		out.net.Gateways = append(out.net.Gateways, own)
		out.net.Resolvers = append(out.net.Resolvers, own)
	}
	if out.port, err = n.lan.AddPort(cfg); err != nil {
		return err
	}
	out.net.Port = out.port
	n.services[s.Name] = out
	for _, p := range s.Publish {
		listen, port, err := published(p)
		if err != nil {
			return err
		}
		var at net.Addr
		if at, err = v.gateway.Publish(listen, netip.AddrPortFrom(s.Address, port)); err != nil {
			return err
		}
		out.published = append(out.published, fmt.Sprintf("%v:%d", at, port))
	}
	return nil
}

// address is a, or the next that is free in a network.
func (v *vlan) address(a netip.Addr, network netip.Prefix) (netip.Addr, error) {
	if a.IsValid() {
		last := a.Is4() && !network.Contains(a.Next()) // the broadcast address
		if !network.Contains(a) || a == network.Addr() || last || slices.Contains(v.gateway.Addresses(), a) {
			return a, fmt.Errorf("address %v is not one for a service in the networks of VLAN %s", a, v.Name)
		}
		return a, nil
	}
	for a = network.Addr().Next(); network.Contains(a); a = a.Next() {
		last := a.Is4() && !network.Contains(a.Next())
		if !v.taken[a] && !last {
			v.taken[a] = true
			return a, nil
		}
	}
	return a, fmt.Errorf("no address of %v is free", network)
}

// SetAllow replaces what is allowed, at once. What is open and still allowed stays
// open.
func (n *Network) SetAllow(allow []Allow) error {
	list, err := rules(allow, n.has)
	if err != nil {
		return err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if err := n.lan.SetRules(list); err != nil {
		return err
	}
	n.allow = allow
	return nil
}

// has reports whether a name in Allow stands for something.
func (n *Network) has(name string) bool {
	return n.services[name] != nil || slices.ContainsFunc(n.vlans, func(v *vlan) bool { return v.uplink != nil && v.uplink.Name() == name })
}

// Switch is the switch under the network.
func (n *Network) Switch() *lan.Switch { return n.lan }

// Port is a service's port, nil if it has none.
func (n *Network) Port(name string) *lan.Port {
	if n != nil && n.services[name] != nil {
		return n.services[name].port
	}
	return nil
}

// Interface is a service's network interface, for its VM.
func (n *Network) Interface(name string) (supervisor.Net, bool) {
	if n != nil && n.services[name] != nil {
		return n.services[name].net, true
	}
	return supervisor.Net{}, false
}

// Close takes the network down. No VM uses it any more.
func (n *Network) Close() error {
	if n == nil {
		return nil
	}
	var errs []error
	for _, c := range slices.Backward(n.closers) {
		errs = append(errs, c())
	}
	return errors.Join(errs...)
}
