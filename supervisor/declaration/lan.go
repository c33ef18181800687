package declaration

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// LAN is what a service has on the LAN between VMs.
type LAN struct {
	VLAN string `yaml:"vlan" json:"vlan,omitempty"`
	// Trunk are further VLANs, in which it sends and gets frames with their tag (802.1Q)
	// and has an address. Without VLAN it is in no other.
	Trunk List `yaml:"trunk" json:"trunk,omitempty"`
	// Mirror has it get copies, with tags, of what services of these names send and are
	// sent, * for all. It is in no VLAN then, and sends nothing.
	Mirror List `yaml:"mirror" json:"mirror,omitempty"`
	// Address and Address6 are its own. Default: the next that are free.
	Address  netip.Addr `yaml:"address" json:"address,omitzero"`
	Address6 netip.Addr `yaml:"address6" json:"address6,omitzero"`
	// DHCP has the guest ask for its IPv4 address in place of being told it.
	DHCP bool `yaml:"dhcp" json:"dhcp,omitempty"`
	// Allow is what it may say to others, and they to it: in each one end is left out,
	// which is the service itself.
	Allow []Allow `yaml:"allow" json:"allow,omitempty"`
	// Egress is what it may reach outside.
	Egress []Egress `yaml:"egress" json:"egress,omitempty"`
	// Publish are ports of the host's that lead to ports of the service's, as
	// 127.0.0.1:8080:80.
	Publish List `yaml:"publish" json:"publish,omitempty"`
	// Isolated keeps it apart from other isolated ones, whatever is allowed.
	Isolated bool `yaml:"isolated" json:"isolated,omitempty"`
	// Rate is how much it may send a second, as 10MB. Default: any amount.
	Rate string `yaml:"rate" json:"rate,omitempty"`
	// Priority is 0 to 2: what waits of a higher one goes first.
	Priority int `yaml:"priority" json:"priority,omitempty"`
}

// Allow lets services begin conversations with others.
type Allow struct {
	From List `yaml:"from" json:"from,omitempty"` // names of services, or *
	To   List `yaml:"to" json:"to,omitempty"`
	// Ports are of the ones in To, as tcp/80, udp/5000-5100, tcp, icmp, all. Default
	// where HTTP or DNS is given: tcp/80, or udp/53 and tcp/53.
	Ports List `yaml:"ports" json:"ports,omitempty"`
	// HTTP and DNS have such requests pass alone.
	HTTP *HTTP `yaml:"http" json:"http,omitempty"`
	DNS  List  `yaml:"dns" json:"dns,omitempty"` // names that may be asked for, *.example.org for all below
}

// HTTP is which requests may be made. What is not given does not matter.
type HTTP struct {
	Host   List `yaml:"host" json:"host,omitempty"`
	Method List `yaml:"method" json:"method,omitempty"`
	Path   List `yaml:"path" json:"path,omitempty"` // /exactly/this, or /below/*
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

// ParsePublish reads one of what a LAN publishes: where the host listens, and the service's
// port.
func ParsePublish(s string) (at netip.AddrPort, port uint16, err error) {
	i := max(strings.LastIndexByte(s, ':'), 0)
	n, err := strconv.ParseUint(strings.TrimPrefix(s[i:], ":"), 10, 16)
	if err != nil || n == 0 {
		return at, 0, fmt.Errorf("publish %q: give ADDRESS:PORT:PORT, as in 127.0.0.1:8080:80", clip(s))
	}
	if at, err = netip.ParseAddrPort(s[:i]); err != nil {
		return at, 0, fmt.Errorf("publish %q: give the address and port to listen at first, as in 127.0.0.1:8080:80", clip(s))
	}
	return at, uint16(n), nil
}

// lan looks at how much there is of what is said of the LAN, and at its words. What most of
// them mean is for who has the LAN.
func (c *checker) lan(path string, l *LAN) {
	if l == nil {
		return
	}
	c.text(path+".vlan", l.VLAN)
	c.text(path+".rate", l.Rate)
	c.between(path+".priority", l.Priority, 0, 2)
	for what, list := range map[string]List{"trunk": l.Trunk, "mirror": l.Mirror, "publish": l.Publish} {
		c.upTo(maxRules, path+"."+what, list)
	}
	for i, p := range l.Publish {
		if _, _, err := ParsePublish(p); p != "" && err != nil {
			c.add(fmt.Sprintf("%s.publish[%d]", path, i), "%s", strings.TrimPrefix(err.Error(), "publish "))
		}
	}
	if len(l.Allow) > maxRules || len(l.Egress) > maxRules {
		c.add(path, "%d entries in allow, %d in egress: give at most %d in each", len(l.Allow), len(l.Egress), maxRules)
		return
	}
	for i, a := range l.Allow {
		where := fmt.Sprintf("%s.allow[%d]", path, i)
		if (len(a.From) == 0) == (len(a.To) == 0) {
			c.add(where, "give from or to: the other end is the service itself")
		}
		for what, list := range map[string]List{"from": a.From, "to": a.To, "ports": a.Ports, "dns": a.DNS} {
			c.upTo(maxRules, where+"."+what, list)
		}
		if h := a.HTTP; h != nil {
			for what, list := range map[string]List{"host": h.Host, "method": h.Method, "path": h.Path} {
				c.upTo(maxRules, where+".http."+what, list)
			}
		}
	}
	for i, e := range l.Egress {
		where := fmt.Sprintf("%s.egress[%d]", path, i)
		c.upTo(maxRules, where+".to", e.To)
		c.upTo(maxRules, where+".ports", e.Ports)
	}
}
