package network

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"

	vnet "warder/devices/virtio/net"
	"warder/secmon/lan"
	"warder/secmon/lan/gateway"
	"warder/supervisor"
	"warder/vmm"
)

type service struct {
	Service
	port      *lan.Port
	net       supervisor.Net
	published []string
}

// add gives a service its port.
func (n *Network) add(s Service) error {
	rate, err := s.rate()
	if err != nil {
		return err
	}
	out := &service{Service: s, net: supervisor.Net{Net: vmm.Net{MAC: vmm.DefaultMAC("lan of "+s.Name, 0)}, DHCP: s.DHCP}}
	cfg := lan.PortConfig{Name: s.Name, MAC: out.net.MAC, Isolated: s.Isolated, Rate: rate, Priority: s.Priority, Mirror: s.Mirror}
	if len(s.Mirror) > 0 {
		err = out.mirrors()
	} else {
		err = n.join(out, &cfg)
	}
	if err != nil {
		return err
	}
	if out.port, err = n.lan.AddPort(cfg); err != nil {
		return err
	}
	out.net.Port = out.port
	n.services[s.Name] = out
	return n.publish(out)
}

// mirrors says what a mirror port cannot have.
func (s *service) mirrors() error {
	if s.VLAN != "" || len(s.Trunk)+len(s.Egress)+len(s.Publish) > 0 || s.DHCP || s.Address.IsValid() || s.Address6.IsValid() {
		return errors.New("mirror: it gets copies alone, and is in no VLAN: give no other part of lan")
	}
	return nil
}

// join puts a port into its VLANs, with an address in each of their networks.
func (n *Network) join(s *service, cfg *lan.PortConfig) error {
	if s.VLAN != "" || len(s.Trunk) == 0 {
		v := n.vlan(s.VLAN)
		if v == nil {
			return fmt.Errorf("there is no VLAN %q", s.VLAN)
		}
		cfg.VLAN, s.net.MTU = v.ID, v.MTU
		if err := s.addresses(v, cfg); err != nil {
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
		cfg.Trunk = append(cfg.Trunk, v.ID)
		s.net.MTU = max(s.net.MTU, v.MTU)
		for _, network := range v.networks() {
			a, err := v.address(selfMade(network, s.net.MAC), network)
			if err != nil {
				return err
			}
			cfg.Addresses = append(cfg.Addresses, a)
		}
	}
	return nil
}

// addresses gives a service its addresses in the VLAN that it is in without a tag.
func (s *service) addresses(v *vlan, cfg *lan.PortConfig) (err error) {
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
		if *a.addr, err = v.address(*a.addr, a.network); err != nil {
			return err
		}
	}
	for i, network := range v.networks() {
		a, own := s.Address, v.gateway.Addresses()[i]
		if network.Addr().Is6() {
			a = s.Address6
		}
		cfg.Addresses = append(cfg.Addresses, a)
		if a.Is4() && s.DHCP {
			continue
		}
		s.net.Addresses = append(s.net.Addresses, netip.PrefixFrom(a, network.Bits()))
		s.net.Gateways = append(s.net.Gateways, own)
		s.net.Resolvers = append(s.net.Resolvers, own)
	}
	return nil
}

// selfMade is the address that a guest makes itself in a network of IPv6 when it is told the
// prefix alone, none where it makes none.
func selfMade(network netip.Prefix, mac vnet.MAC) (none netip.Addr) {
	if network.IsValid() && network.Addr().Is6() && network.Bits() == 64 {
		return lan.Autoconfigured(network, mac)
	}
	return none
}

// publish has ports of the host's lead to a service.
func (n *Network) publish(s *service) error {
	var hold gateway.Hold
	if s.OnDemand && n.hold != nil {
		hold = func(ctx context.Context) (context.Context, func(), error) { return n.hold(ctx, s.Name) }
	}
	for _, p := range s.Publish {
		listen, port, err := published(p)
		if err != nil {
			return err
		}
		var at net.Addr
		if at, err = n.vlan(s.VLAN).gateway.Publish(listen, netip.AddrPortFrom(s.Address, port), hold); err != nil {
			return err
		}
		s.published = append(s.published, fmt.Sprintf("%v:%d", at, port))
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
