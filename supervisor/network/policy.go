package network

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"warder/secmon/lan"
	"warder/secmon/lan/gateway"
	"warder/supervisor/declaration"
)

// SetAllow replaces what is allowed beside what services say of themselves, at once. What
// is open and still allowed stays open.
func (n *Network) SetAllow(allow []declaration.Allow) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	list, err := rules(allow, n.has)
	if err != nil {
		return err
	}
	before := n.rules
	n.rules = list
	if err := n.setRules(); err != nil {
		n.rules = before
		return err
	}
	n.allow = allow
	return nil
}

// setRules puts all rules in force. The caller holds the lock.
func (n *Network) setRules() error {
	list := slices.Clone(n.rules)
	for _, s := range n.sorted() {
		list = append(list, s.rules...)
	}
	return n.lan.SetRules(list)
}

// sorted are the services by name. The caller holds the lock.
func (n *Network) sorted() []*service {
	return slices.SortedFunc(maps.Values(n.services), func(a, b *service) int { return strings.Compare(a.Name, b.Name) })
}

// SetEgress replaces what services may reach outside, at once. Connections that are open
// and still declared stay open, others end. Who is not named reaches nothing, but for
// services that were put on the LAN while it was up: they keep what they have.
func (n *Network) SetEgress(by map[string][]declaration.Egress) error {
	n.mu.Lock()
	defer n.mu.Unlock()
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
	for name, s := range n.services {
		if _, named := out[name]; named || !s.added {
			s.egress = out[name]
		}
	}
	n.setEgress()
	return nil
}

// setEgress puts what all may reach outside in force. The caller holds the lock.
func (n *Network) setEgress() {
	by := make(map[string][]gateway.Egress)
	for name, s := range n.services {
		by[name] = s.egress
	}
	for _, v := range n.vlans {
		v.gateway.SetEgress(by)
	}
}

// Divert has what a service says, and is said to, go to a mirror port in place of those
// that it is for; "" for the mirror puts it back.
func (n *Network) Divert(name, mirror string) error {
	to, err := n.mirror(mirror)
	if err != nil {
		return err
	}
	p := n.Port(name)
	if p == nil {
		return errNotThere(name)
	}
	return p.Divert(to)
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
		return nil, errNotThere(name)
	}
	return p, nil
}

func errNotThere(name string) error { return fmt.Errorf("no service %s is on the LAN", name) }

// has reports whether a name in what is allowed stands for something. The caller holds the
// lock.
func (n *Network) has(name string) bool {
	return n.services[name] != nil || slices.ContainsFunc(n.vlans, func(v *vlan) bool { return v.uplink != nil && v.uplink.Name() == name })
}
