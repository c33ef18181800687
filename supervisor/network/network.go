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
	// Hold brings up a service that is started on demand, for a connection to a port that
	// it publishes, see [gateway.Hold].
	Hold func(ctx context.Context, service string) (alive context.Context, release func(), err error)
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
	hold     func(ctx context.Context, service string) (context.Context, func(), error)

	mu    sync.Mutex
	allow []Allow // in force
}

type vlan struct {
	VLAN
	gateway *gateway.Gateway
	uplink  *lan.Port // nil if it has none
	taken   map[netip.Addr]bool
}

// New brings a LAN up, with a port for each service.
func New(cfg Config, services []Service, opt Options) (*Network, error) {
	cfg.VLANs = slices.Clone(cfg.VLANs)
	if err := cfg.check(); err != nil {
		return nil, fmt.Errorf("lan: %w", err)
	}
	n := &Network{lan: lan.New(lan.Config{Inspector: opt.Inspector}), services: make(map[string]*service), hold: opt.Hold}
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
		up, err := n.uplink(&v)
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
	egress := make(map[string][]Egress)
	for _, s := range services {
		if err := n.add(s); err != nil {
			return fmt.Errorf("%s: %w", s.Name, err)
		}
		egress[s.Name] = s.Egress
	}
	for _, s := range services {
		for _, name := range s.Mirror {
			if name != lan.Everybody && n.Port(name) == nil {
				return fmt.Errorf("%s: mirror: no service %s is on the LAN", s.Name, name)
			}
		}
	}
	if err := n.SetEgress(egress); err != nil {
		return err
	}
	return n.SetAllow(cfg.Allow)
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

// SetEgress replaces what services may reach outside, at once. Connections that are open
// and still declared stay open, others end.
func (n *Network) SetEgress(by map[string][]Egress) error {
	out := make(map[string][]gateway.Egress)
	for name, list := range by {
		if n.services[name] == nil {
			return fmt.Errorf("egress: no service %s is on the LAN", name)
		}
		var err error
		if out[name], err = egress(list); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	for _, v := range n.vlans {
		v.gateway.SetEgress(out)
	}
	return nil
}

// Divert has what a service says, and is said to, go to a mirror port in place of those
// that it is for; "" for the mirror puts it back.
func (n *Network) Divert(name, mirror string) error {
	to, err := n.mirror(mirror)
	if err != nil {
		return err
	}
	return n.services[name].port.Divert(to)
}

// DivertFlow is Divert for a flow by its number at the switch. It reports whether there is
// such a flow.
func (n *Network) DivertFlow(id uint64, mirror string) (bool, error) {
	to, err := n.mirror(mirror)
	if err != nil {
		return false, err
	}
	return n.lan.Divert(id, to)
}

func (n *Network) mirror(name string) (*lan.Port, error) {
	p := n.Port(name)
	if p == nil && name != "" {
		return nil, fmt.Errorf("no service %s is on the LAN", name)
	}
	return p, nil
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
