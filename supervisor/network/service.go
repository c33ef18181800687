package network

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"

	"golang.org/x/sys/unix"

	"warder/secmon/lan"
	"warder/secmon/lan/gateway"
	"warder/supervisor"
	"warder/supervisor/declaration"
	"warder/vmm"
)

// A Service is a service with its part of the LAN.
type Service struct {
	Name string
	declaration.LAN
	// OnDemand has connections to the ports that it publishes, and conversations that others
	// on the LAN begin with it, bring it up, by [Options.Hold].
	OnDemand bool
}

type service struct {
	Service
	added     bool // to a LAN that was up
	cfg       lan.PortConfig
	port      *lan.Port
	net       supervisor.Net
	rules     []lan.Rule // that it has declared itself
	egress    []gateway.Egress
	published []published
}

// published is a port of the host's that leads to one of a service's.
type published struct {
	declared string
	port     uint16 // of the service
	*gateway.Published
}

// prepare makes a service of what is declared, with its addresses, and listens for it at
// the ports that old, if it is not nil, does not publish. Nothing leads to it yet. What was
// made before a mistake is in the service too.
func (n *Network) prepare(s Service, old *service) (*service, error) {
	out := &service{Service: s, net: supervisor.Net{Net: vmm.Net{MAC: vmm.DefaultMAC("lan of "+s.Name, 0)}, DHCP: s.DHCP}}
	rate, err := bytesASecond(s.Rate)
	if err != nil {
		return out, err
	}
	out.cfg = lan.PortConfig{Name: s.Name, MAC: out.net.MAC, Isolated: s.Isolated, Rate: rate, Priority: s.Priority, Mirror: s.Mirror}
	if len(s.Mirror) > 0 {
		err = out.mirrors()
	} else {
		if s.OnDemand && n.hold != nil {
			out.cfg.Wake = n.waker.wake
		}
		err = n.join(out)
	}
	if err == nil {
		out.egress, err = egress(s.Egress)
	}
	if err != nil {
		return out, err
	}
	return out, n.listen(out, old)
}

// mirrors says what a mirror port cannot have.
func (s *service) mirrors() error {
	if s.VLAN != "" || len(s.Trunk)+len(s.Egress)+len(s.Publish)+len(s.Allow) > 0 || s.DHCP || s.Address.IsValid() || s.Address6.IsValid() {
		return errors.New("mirror: it gets copies alone, and is in no VLAN: give no other part of lan")
	}
	return nil
}

// join puts a service into its VLANs, with an address in each of their networks.
func (n *Network) join(s *service) error {
	if s.VLAN != "" || len(s.Trunk) == 0 {
		v := n.vlan(s.VLAN)
		if v == nil {
			return fmt.Errorf("there is no VLAN %q", s.VLAN)
		}
		s.cfg.VLAN, s.net.MTU = v.ID, v.MTU
		if err := n.untagged(s, v); err != nil {
			return err
		}
	} else if s.DHCP || s.Address.IsValid() || s.Address6.IsValid() || len(s.Publish) > 0 {
		return errors.New("trunk: dhcp, address and publish are of a VLAN without a tag: give one as vlan")
	}
	for _, name := range s.Trunk {
		v := n.vlan(name)
		if v == nil {
			return fmt.Errorf("trunk: there is no VLAN %q", name)
		}
		s.cfg.Trunk = append(s.cfg.Trunk, v.ID)
		s.net.MTU = max(s.net.MTU, v.MTU)
		for _, network := range v.networks() {
			a, err := n.taken.give(s.Name, v, selfMade(network, s.net.MAC), network)
			if err != nil {
				return err
			}
			s.cfg.Addresses = append(s.cfg.Addresses, a)
		}
	}
	return nil
}

// untagged gives a service its addresses in the VLAN that it is in without a tag.
func (n *Network) untagged(s *service, v *vlan) (err error) {
	if s.DHCP && !s.Address6.IsValid() {
		s.Address6 = selfMade(v.Network6, s.net.MAC)
	}
	for _, a := range []struct {
		addr    *netip.Addr
		network netip.Prefix
	}{{&s.Address, v.Network}, {&s.Address6, v.Network6}} {
		if !a.network.IsValid() && !a.addr.IsValid() {
			continue
		}
		if *a.addr, err = n.taken.give(s.Name, v, *a.addr, a.network); err != nil {
			return err
		}
	}
	for i, network := range v.networks() {
		a, own := s.Address, v.gateway.Addresses()[i]
		if network.Addr().Is6() {
			a = s.Address6
		}
		s.cfg.Addresses = append(s.cfg.Addresses, a)
		if a.Is4() && s.DHCP {
			continue
		}
		s.net.Addresses = append(s.net.Addresses, netip.PrefixFrom(a, network.Bits()))
		s.net.Gateways = append(s.net.Gateways, own)
		s.net.Resolvers = append(s.net.Resolvers, own)
	}
	return nil
}

// listen opens the ports that a service publishes. What old has open it goes on with, so that
// nobody else gets it meanwhile.
func (n *Network) listen(s, old *service) error {
	for _, declared := range s.Publish {
		at, port, err := declaration.ParsePublish(declared)
		if err != nil {
			return err
		}
		p := old.has(declared)
		if p == nil {
			l, err := net.Listen("tcp", at.String())
			if errors.Is(err, unix.EADDRINUSE) {
				if owner := n.publisher(at.Port()); owner != "" {
					err = fmt.Errorf("%w, by %s: give another port", err, owner)
				}
			}
			if err != nil {
				return fmt.Errorf("publish %s: %w", declared, err)
			}
			p = gateway.NewPublished(l)
		}
		s.published = append(s.published, published{declared, port, p})
	}
	return nil
}

// has is what a service publishes as declared, nil if it does not.
func (s *service) has(declared string) *gateway.Published {
	if s == nil {
		return nil
	}
	for _, p := range s.published {
		if p.declared == declared {
			return p.Published
		}
	}
	return nil
}

// publisher is the service that publishes a port of the host's, "" if none does.
func (n *Network) publisher(port uint16) string {
	for name, s := range n.services {
		for _, p := range s.published {
			if p.Addr().(*net.TCPAddr).Port == int(port) {
				return name
			}
		}
	}
	return ""
}

// publish has the ports of the host's lead to a service.
func (n *Network) publish(s *service) {
	var hold gateway.Hold
	if s.OnDemand && n.hold != nil {
		hold = func(ctx context.Context) (context.Context, func(), error) { return n.hold(ctx, s.Name, "") }
	}
	for _, p := range s.published {
		p.Lead(n.vlan(s.VLAN).gateway, netip.AddrPortFrom(s.Address, p.port), hold)
	}
}

// unpublish closes them, but for those that another goes on with, which is nil for none.
func (s *service) unpublish(other *service) {
	for _, p := range s.published {
		if p.Published != other.has(p.declared) {
			p.Close()
		}
	}
}
