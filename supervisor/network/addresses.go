package network

import (
	"fmt"
	"net/netip"
	"slices"

	vnet "warder/devices/virtio/net"
	"warder/secmon/lan"
)

// addresses are whose they are, by the names of services. Networks of VLANs do not overlap.
type addresses map[netip.Addr]string

// of are a service's own, in their order.
func (t addresses) of(name string) (list []netip.Addr) {
	for a, owner := range t {
		if owner == name {
			list = append(list, a)
		}
	}
	slices.SortFunc(list, netip.Addr.Compare)
	return list
}

// set has a service have these and no others.
func (t addresses) set(name string, list []netip.Addr) {
	for _, a := range t.of(name) {
		delete(t, a)
	}
	for _, a := range list {
		t[a] = name
	}
}

// claim has a service have an address that it asks for, if nobody has it.
func (t addresses) claim(name string, a netip.Addr) {
	if a.IsValid() && t[a] == "" {
		t[a] = name
	}
}

// give gives a service its address in a network of a VLAN's: a, or the one that it had,
// or the next that is free.
func (t addresses) give(name string, v *vlan, a netip.Addr, network netip.Prefix) (netip.Addr, error) {
	if a.IsValid() {
		if !network.Contains(a) || a == network.Addr() || broadcast(a, network) || t[a] == v.gateway.Port().Name() {
			return a, fmt.Errorf("address %v is not one for a service in the networks of VLAN %s", a, v.Name)
		}
		if owner := t[a]; owner != "" && owner != name {
			return a, fmt.Errorf("address %v is that of %s: give another", a, owner)
		}
		t[a] = name
		return a, nil
	}
	for _, a := range t.of(name) {
		if network.Contains(a) {
			return a, nil
		}
	}
	for a = network.Addr().Next(); network.Contains(a); a = a.Next() {
		if t[a] == "" && !broadcast(a, network) {
			t[a] = name
			return a, nil
		}
	}
	n := 0
	for a := range t {
		if network.Contains(a) {
			n++
		}
	}
	return a, fmt.Errorf("no address of %v is free: services and the gateway have all %d", network, n)
}

// broadcast reports whether an address is for all of a network of IPv4.
func broadcast(a netip.Addr, network netip.Prefix) bool {
	return a.Is4() && !network.Contains(a.Next())
}

// selfMade is the address that a guest makes itself in a network of IPv6 when it is told the
// prefix alone, none where it makes none.
func selfMade(network netip.Prefix, mac vnet.MAC) (none netip.Addr) {
	if network.IsValid() && network.Addr().Is6() && network.Bits() == 64 {
		return lan.Autoconfigured(network, mac)
	}
	return none
}
