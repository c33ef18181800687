package main

import (
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"

	vnet "warder/devices/virtio/net"
	"warder/supervisor"
)

const netSyntax = "tap:NAME[,dhcp][,ip=ADDRESS/BITS][,gw=ADDRESS][,dns=ADDRESS][,mac=MAC][,mtu=BYTES]"

// parseNet parses what --net is given; ip, gw and dns may be repeated.
func parseNet(_, s string) (n supervisor.Net, err error) {
	where, options, _ := strings.Cut(s, ",")
	kind, name, ok := strings.Cut(where, ":")
	if !ok || kind != "tap" || name == "" {
		return n, fmt.Errorf("--net %s: give %s", s, netSyntax)
	}
	n.TAP = name
	for option := range strings.SplitSeq(options, ",") {
		if option == "" {
			continue
		}
		if err := setNetOption(&n, option); err != nil {
			return n, fmt.Errorf("--net %s: %s: %w", s, option, err)
		}
	}
	return n, nil
}

func setNetOption(n *supervisor.Net, option string) error {
	key, value, _ := strings.Cut(option, "=")
	switch key {
	case "dhcp":
		if option != key {
			return fmt.Errorf("it has no value")
		}
		n.DHCP = true
	case "ip":
		p, err := netip.ParsePrefix(value)
		if err != nil {
			return fmt.Errorf("give an address with the bits of its network, as in 10.0.0.2/24")
		}
		n.Addresses = append(n.Addresses, p)
	case "gw", "dns":
		a, err := netip.ParseAddr(value)
		if err != nil || a.Zone() != "" {
			return fmt.Errorf("give an address, as in 10.0.0.1")
		}
		if key == "gw" {
			n.Gateways = append(n.Gateways, a)
		} else {
			n.Resolvers = append(n.Resolvers, a)
		}
	case "mac":
		m, err := net.ParseMAC(value)
		if err != nil || len(m) != len(n.MAC) {
			return fmt.Errorf("give an address of 6 bytes, as in 02:00:00:00:00:01")
		}
		if n.MAC = vnet.MAC(m); !n.MAC.Unicast() {
			return fmt.Errorf("give the address of one interface: its first byte is even")
		}
	case "mtu":
		mtu, err := strconv.Atoi(value)
		if err != nil || mtu < vnet.MinMTU || mtu > vnet.MaxMTU {
			return fmt.Errorf("give %d to %d", vnet.MinMTU, vnet.MaxMTU)
		}
		n.MTU = mtu
	default:
		return fmt.Errorf("there is no such option: give %s", netSyntax)
	}
	return nil
}
