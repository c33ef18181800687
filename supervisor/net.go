package supervisor

import (
	"fmt"
	"net/netip"

	"warder/guestinit/proto"
	"warder/vmm"
)

// A Net is a network interface and how the guest sets it up. Without addresses it
// comes up with what IPv6 gives it by itself.
type Net struct {
	vmm.Net
	Addresses []netip.Prefix
	Gateways  []netip.Addr // for all else, at most one of IPv4 and one of IPv6
	Resolvers []netip.Addr // of names
}

func (n Net) validate(i int) error {
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
			MAC: nets[i].MAC.String(), Addresses: n.Addresses, Gateways: n.Gateways,
		})
		for _, r := range n.Resolvers {
			setup.Resolvers = append(setup.Resolvers, r.String())
		}
	}
}
