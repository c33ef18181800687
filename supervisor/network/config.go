// Package network is the LAN of a host's services as it was declared: a switch, a
// gateway in each VLAN, a port and addresses for each service.
package network

import (
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"github.com/dustin/go-humanize"

	"warder/secmon/lan"
	"warder/secmon/lan/gateway"
)

// Config is the LAN of a host.
type Config struct {
	VLANs []VLAN  `yaml:"vlans"`
	Allow []Allow `yaml:"allow"`
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

// A Member is what a service has on the LAN.
type Member struct {
	VLAN string `yaml:"vlan"`
	// Trunk are further VLANs, in which it sends and gets frames with their tag (802.1Q)
	// and has an address. Without VLAN it is in no other.
	Trunk List `yaml:"trunk"`
	// Mirror has it get copies, with tags, of what services of these names send and are
	// sent, * for all. It is in no VLAN then, and sends nothing.
	Mirror List `yaml:"mirror"`
	// Address and Address6 are its own. Default: the next that are free.
	Address  netip.Addr `yaml:"address"`
	Address6 netip.Addr `yaml:"address6"`
	// DHCP has the guest ask for its IPv4 address in place of being told it.
	DHCP bool `yaml:"dhcp"`
	// Egress is what it may reach outside.
	Egress []Egress `yaml:"egress"`
	// Publish are ports of the host's that lead to ports of the service's, as
	// 127.0.0.1:8080:80.
	Publish List `yaml:"publish"`
	// OnDemand has connections to those bring it up, by [Options.Hold].
	OnDemand bool `yaml:"-"`
	// Isolated keeps it apart from other isolated ones, whatever is allowed.
	Isolated bool `yaml:"isolated"`
	// Rate is how much it may send a second, as 10MB. Default: any amount.
	Rate string `yaml:"rate"`
	// Priority is 0 to 2: what waits of a higher one goes first.
	Priority int `yaml:"priority"`
}

// Egress lets a service reach networks, addresses and names outside.
type Egress struct {
	To    List `yaml:"to" json:"to"`                 // as 203.0.113.0/24, 203.0.113.7, deb.debian.org, *.debian.org
	Ports List `yaml:"ports" json:"ports,omitempty"` // as tcp/443. Default: all of TCP and UDP
}

// A List is one string or several.
type List []string

// UnmarshalYAML takes one string for a list of it.
func (l *List) UnmarshalYAML(unmarshal func(any) error) error {
	var one string
	if err := unmarshal(&one); err == nil {
		*l = List{one}
		return nil
	}
	return unmarshal((*[]string)(l))
}

// egress is what a service may reach, rule by rule.
func egress(given []Egress) (list []gateway.Egress, err error) {
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
			ports = List{"all"}
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

// published is one of Publish: where the host listens, and the service's port.
func published(s string) (listen string, port uint16, err error) {
	listen, last, ok := cutLast(s)
	n, err := strconv.ParseUint(last, 10, 16)
	if !ok || err != nil || n == 0 {
		return "", 0, fmt.Errorf("publish %q: give ADDRESS:PORT:PORT, as in 127.0.0.1:8080:80", s)
	}
	if _, err := netip.ParseAddrPort(listen); err != nil {
		return "", 0, fmt.Errorf("publish %q: give the address and port to listen at first, as in 127.0.0.1:8080:80", s)
	}
	return listen, uint16(n), nil
}

func cutLast(s string) (before, after string, ok bool) {
	i := strings.LastIndexByte(s, ':')
	if i < 0 {
		return s, "", false
	}
	return s[:i], s[i+1:], true
}

// rate is Rate in bytes a second.
func (m Member) rate() (uint64, error) {
	if m.Rate == "" {
		return 0, nil
	}
	n, err := humanize.ParseBytes(m.Rate)
	if err != nil || n == 0 {
		return 0, fmt.Errorf("rate %q: give bytes a second, as in 10MB", m.Rate)
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
