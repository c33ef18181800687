package supervisor

import (
	"fmt"
	"net/netip"

	"warder/guestinit/proto"
	"warder/vmm"
)

// A Net is a network interface and how the guest sets it up. Whatever it is given,
// it takes what IPv6 routers announce.
type Net struct {
	vmm.Net
	Addresses []netip.Prefix
	Gateways  []netip.Addr // for all else, at most one of IPv4 and one of IPv6
	Resolvers []netip.Addr // of names
	// DHCP has the guest ask a server for its IPv4 address, routes and resolvers.
	// The VM is not up before a server has answered.
	DHCP bool
}

func (n Net) validate(i int) error {
	for _, a := range n.Addresses {
		if n.DHCP && a.Addr().Unmap().Is4() {
			return fmt.Errorf("network interface %d: an IPv4 address and DHCP: give one of them", i)
		}
	}
	seen := map[bool]bool{}
	for _, g := range n.Gateways {
		g = g.Unmap()
		if seen[g.Is4()] {
			return fmt.Errorf("network interface %d: two gateways of one kind: give one for IPv4 and one for IPv6", i)
		}
		seen[g.Is4()] = true
		reached := false
		for _, a := range n.Addresses {
			reached = reached || a.Masked().Contains(g)
		}
		if !reached && !g.IsLinkLocalUnicast() {
			return fmt.Errorf("network interface %d: gateway %v is in the network of no address of the interface", i, g)
		}
	}
	return nil
}

// nets are the machine's network interfaces.
func (s Spec) nets() (nets []vmm.Net) {
	for i, n := range s.Nets {
		if n.MAC.Unset() {
			n.MAC = vmm.DefaultMAC(s.Name, i)
		}
		nets = append(nets, n.Net)
	}
	return nets
}

// setupNets has the guest set up nets, which are those of s.
func (s Spec) setupNets(setup *proto.Setup, nets []vmm.Net) {
	for i, n := range s.Nets {
		setup.Interfaces = append(setup.Interfaces, proto.Interface{
			MAC: nets[i].MAC.String(), Addresses: n.Addresses, Gateways: n.Gateways, DHCP: n.DHCP,
		})
		for _, r := range n.Resolvers {
			setup.Resolvers = append(setup.Resolvers, r.String())
		}
	}
}
