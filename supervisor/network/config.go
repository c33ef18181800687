// Package network is the LAN of a host's services as it was declared: a switch, a
// gateway in each VLAN, a port and addresses for each service.
package network

import (
	"errors"
	"fmt"
	"net/netip"

	"github.com/dustin/go-humanize"

	"warder/secmon/lan"
	"warder/secmon/lan/gateway"
	"warder/supervisor/declaration"
)

// Config is the LAN of a host.
type Config struct {
	VLANs []VLAN              `yaml:"vlans"`
	Allow []declaration.Allow `yaml:"allow"`
}

// A VLAN is a network of its own. Nothing crosses from one to another.
type VLAN struct {
	Name string `yaml:"name"`
	// ID is its number on a trunk, 1 to 4094. Default: its place in the list.
	ID uint16 `yaml:"id"`
	// Network and Network6 are its networks of IPv4 and, if it has one, IPv6. The
	// first address of each is the gateway's.
	Network  netip.Prefix `yaml:"network"`
	Network6 netip.Prefix `yaml:"network6"`
	// MTU is the longest IP packet in bytes. Default: that of the uplink, or 1500.
	MTU int `yaml:"mtu"`
	// Uplink is a TAP of the host's that the VLAN is joined with, for a network that
	// others are on too. In Allow it is uplink.NAME, with the VLAN's name.
	Uplink string `yaml:"uplink"`
}

// egress is what a service may reach, rule by rule.
func egress(given []declaration.Egress) (list []gateway.Egress, err error) {
	for i, e := range given {
		rule := gateway.Egress{}
		for _, to := range e.To {
			if p, err := netip.ParsePrefix(to); err == nil {
				rule.Networks = append(rule.Networks, p.Masked())
			} else if a, err := netip.ParseAddr(to); err == nil && a.Zone() == "" {
				rule.Networks = append(rule.Networks, netip.PrefixFrom(a, a.BitLen()))
			} else {
				rule.Names = append(rule.Names, to)
			}
		}
		ports := e.Ports
		if len(ports) == 0 {
			ports = declaration.List{"all"}
		}
		for _, s := range ports {
			r, err := parsePorts(s)
			if err == nil {
				rule.Proto, rule.First, rule.Last = r.proto, r.first, r.last
				err = rule.Validate()
			}
			if err != nil {
				return nil, fmt.Errorf("egress %d: %w", i+1, err)
			}
			list = append(list, rule)
		}
	}
	return list, nil
}

// bytesASecond is a declared rate.
func bytesASecond(rate string) (uint64, error) {
	if rate == "" {
		return 0, nil
	}
	n, err := humanize.ParseBytes(rate)
	if err != nil || n == 0 {
		return 0, fmt.Errorf("rate %q: give bytes a second, as in 10MB", rate)
	}
	return n, nil
}

// check completes the VLANs and says what is wrong with them.
func (c *Config) check() error {
	if len(c.VLANs) == 0 {
		return errors.New("no VLANs: give a list under vlans")
	}
	for i := range c.VLANs {
		v := &c.VLANs[i]
		if v.ID == 0 {
			v.ID = uint16(i + 1)
		}
		switch {
		case v.Name == "":
			return fmt.Errorf("VLAN %d: give it a name", i+1)
		case v.ID > lan.MaxVLAN:
			return fmt.Errorf("VLAN %s: id %d: give 1 to %d", v.Name, v.ID, lan.MaxVLAN)
		case !v.Network.IsValid() || !v.Network.Addr().Is4() || v.Network.Bits() > 30:
			return fmt.Errorf("VLAN %s: network %v: give one of IPv4, as in 10.1.0.0/24", v.Name, v.Network)
		case v.Network6.IsValid() && (!v.Network6.Addr().Is6() || v.Network6.Bits() > 120):
			return fmt.Errorf("VLAN %s: network6 %v: give one of IPv6, as in fd01::/64", v.Name, v.Network6)
		}
		v.Network = v.Network.Masked()
		if v.Network6.IsValid() {
			v.Network6 = v.Network6.Masked()
		}
		for _, other := range c.VLANs[:i] {
			switch {
			case other.Name == v.Name || other.ID == v.ID:
				return fmt.Errorf("VLAN %s: another has its name or id", v.Name)
			case other.Network.Overlaps(v.Network), other.Network6.IsValid() && v.Network6.IsValid() && other.Network6.Overlaps(v.Network6):
				return fmt.Errorf("VLAN %s: its network overlaps that of %s", v.Name, other.Name)
			}
		}
	}
	return nil
}
