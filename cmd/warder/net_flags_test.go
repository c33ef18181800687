package main

import (
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"

	vnet "warder/devices/virtio/net"
	"warder/supervisor"
	"warder/vmm"
)

func TestParseNet(t *testing.T) {
	address := netip.MustParseAddr
	for in, want := range map[string]supervisor.Net{
		"tap:t0":      {Net: vmm.Net{TAP: "t0"}},
		"tap:t0,dhcp": {Net: vmm.Net{TAP: "t0"}, DHCP: true},
		"tap:t0,ip=10.0.0.2/24,ip=fd00::2/64,gw=10.0.0.1,gw=fd00::1,dns=10.0.0.1,mac=02:00:00:00:00:07,mtu=9000": {
			Net:       vmm.Net{TAP: "t0", MTU: 9000, MAC: vnet.MAC{2, 0, 0, 0, 0, 7}},
			Addresses: []netip.Prefix{netip.MustParsePrefix("10.0.0.2/24"), netip.MustParsePrefix("fd00::2/64")},
			Gateways:  []netip.Addr{address("10.0.0.1"), address("fd00::1")},
			Resolvers: []netip.Addr{address("10.0.0.1")},
		},
	} {
		got, err := parseNet(".", in)
		if err != nil {
			t.Errorf("%s: %v", in, err)
		}
		if diff := cmp.Diff(want, got, cmp.Comparer(func(a, b netip.Addr) bool { return a == b }), cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })); diff != "" {
			t.Errorf("%s: %s", in, diff)
		}
	}
	for _, in := range []string{
		"", "tap", "tap:", "br0", "bridge:br0", "tap:t0,ip=10.0.0.2", "tap:t0,gw=x", "tap:t0,mac=1:2", "tap:t0,mac=01:00:00:00:00:01",
		"tap:t0,mtu=1", "tap:t0,mtu=x", "tap:t0,speed=1", "tap:t0,dhcp=no",
	} {
		if n, err := parseNet(".", in); err == nil {
			t.Errorf("%q: %+v", in, n)
		}
	}
}
