package supervisor

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"

	vnet "warder/devices/virtio/net"
	"warder/internal/testkvm"
	"warder/vmm"
)

// hostAddress gives an interface of this machine an address.
func hostAddress(t *testing.T, name string, ip string) {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	for _, set := range []struct {
		request uint
		address net.IP
	}{{unix.SIOCSIFADDR, net.ParseIP(ip).To4()}, {unix.SIOCSIFNETMASK, net.IP{255, 255, 255, 0}}} {
		ifr, err := unix.NewIfreq(name)
		if err == nil {
			err = ifr.SetInet4Addr(set.address)
		}
		if err == nil {
			err = unix.IoctlIfreq(fd, set.request, ifr)
		}
		if err != nil {
			t.Fatalf("address of %s: %v", name, err)
		}
	}
}

// TestNet plugs a VM into a TAP of this machine, sets it up by its Spec, and talks to
// it through this machine's own network.
func TestNet(t *testing.T) {
	testkvm.Need(t)
	cpus := min(2, runtime.NumCPU())
	tapName := fmt.Sprintf("wtest%d", os.Getpid()%100000)
	mac := vnet.MAC{2, 0, 0, 0, 0, 5}
	vm := start(t, Spec{Name: "net", CPUs: cpus, Nets: []Net{{
		Net:       vmm.Net{TAP: tapName, MAC: mac, MTU: 1400},
		Addresses: []netip.Prefix{netip.MustParsePrefix("10.9.0.2/24"), netip.MustParsePrefix("fd09::2/64")},
		Gateways:  []netip.Addr{netip.MustParseAddr("10.9.0.1"), netip.MustParseAddr("fd09::1")},
		Resolvers: []netip.Addr{netip.MustParseAddr("10.9.0.1")},
	}}})
	hostAddress(t, tapName, "10.9.0.1")

	for script, want := range map[string]string{
		"cat /sys/class/net/eth0/address":                               mac.String(),
		"cat /sys/class/net/eth0/mtu":                                   "1400",
		"cat /sys/class/net/eth0/operstate":                             "up",
		"cat /etc/resolv.conf":                                          "nameserver 10.9.0.1",
		"grep -c 'fd090000000000000000000000000002' /proc/net/if_inet6": "1",
		"grep -c '^eth0.00000000.0100090A' /proc/net/route":             "1",
		"grep -c '^00000000000000000000000000000000 00 .* fd090000000000000000000000000001 .*eth0' /proc/net/ipv6_route": "1",
		"ping -c 1 10.9.0.1 >/dev/null && echo answers":                                                                  "answers",
	} {
		if got := output(t, vm, script); got != want {
			t.Errorf("%s: %q, want %q", script, got, want)
		}
	}

	s := vm.Machine().Nets()[0].Stats()
	if s.Malformed != 0 || s.Sent == 0 || s.Received == 0 {
		t.Errorf("%+v", s)
	}
}
