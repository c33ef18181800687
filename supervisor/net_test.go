package supervisor

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"os"
	"runtime"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/insomniacslk/dhcp/dhcpv4/server4"
	"golang.org/x/net/ipv6"
	"golang.org/x/sys/unix"

	vnet "warder/devices/virtio/net"
	"warder/devices/virtio/net/tap"
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

// lendAddresses is a DHCP server at an interface of this machine, which lends
// 10.8.0.2 for a minute, to be renewed after a second. It tells of each renewal.
func lendAddresses(t *testing.T, name string) (renewed <-chan struct{}) {
	t.Helper()
	renewals := make(chan struct{}, 1)
	router := net.IPv4(10, 8, 0, 1)
	server, err := server4.NewServer(name, &net.UDPAddr{Port: dhcpv4.ServerPort}, func(c net.PacketConn, _ net.Addr, m *dhcpv4.DHCPv4) {
		kind := dhcpv4.MessageTypeOffer
		if m.MessageType() == dhcpv4.MessageTypeRequest {
			kind = dhcpv4.MessageTypeAck
			if !m.ClientIPAddr.IsUnspecified() {
				select {
				case renewals <- struct{}{}:
				default:
				}
			}
		}
		answer, err := dhcpv4.NewReplyFromRequest(m,
			dhcpv4.WithMessageType(kind), dhcpv4.WithYourIP(net.IPv4(10, 8, 0, 2)), dhcpv4.WithNetmask(net.CIDRMask(24, 32)),
			dhcpv4.WithOption(dhcpv4.OptServerIdentifier(router)), dhcpv4.WithRouter(router), dhcpv4.WithDNS(net.IPv4(10, 8, 0, 53)),
			dhcpv4.WithLeaseTime(60), dhcpv4.WithGeneric(dhcpv4.OptionRenewTimeValue, []byte{0, 0, 0, 1}))
		if err == nil {
			_, err = c.WriteTo(answer.ToBytes(), &net.UDPAddr{IP: net.IPv4bcast, Port: dhcpv4.ClientPort})
		}
		if err != nil {
			t.Log("DHCP server:", err)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan struct{})
	go func() { defer close(served); server.Serve() }()
	t.Cleanup(func() { server.Close(); <-served })
	return renewals
}

// announce tells everybody at an interface of this machine that the prefix
// fd08::/64 is theirs (RFC 4861, 4.2 and 4.6.2).
func announce(t *testing.T, name string) {
	t.Helper()
	link, err := net.InterfaceByName(name)
	if err != nil {
		t.Fatal(err)
	}
	conn, err := net.ListenPacket("ip6:ipv6-icmp", "::")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	const hour = 3600
	b := []byte{134, 0, 0, 0, 64, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 3, 4, 64, 0xc0}
	b = binary.BigEndian.AppendUint32(b, hour)
	b = binary.BigEndian.AppendUint32(b, hour)
	b = append(append(b, 0, 0, 0, 0), netip.MustParseAddr("fd08::").AsSlice()...)
	control := &ipv6.ControlMessage{HopLimit: 255, IfIndex: link.Index}
	if _, err := ipv6.NewPacketConn(conn).WriteTo(b, control, &net.IPAddr{IP: net.IPv6linklocalallnodes, Zone: name}); err != nil {
		t.Log("announcement:", err) // an interface without an address yet
	}
}

// TestNet plugs a VM into two TAPs of this machine, of which it is told all about one
// and has to ask at the other, and talks to it through this machine's own network.
func TestNet(t *testing.T) {
	testkvm.Need(t)
	cpus := min(2, runtime.NumCPU())
	tapName, asked := fmt.Sprintf("wtest%d", os.Getpid()%100000), fmt.Sprintf("wasks%d", os.Getpid()%100000)
	port, err := tap.Open(asked, 1) // before the VM, for the server
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { port.Close() })
	hostAddress(t, asked, "10.8.0.1")
	renewed := lendAddresses(t, asked)
	mac := vnet.MAC{2, 0, 0, 0, 0, 5}
	vm := start(t, Spec{Name: "net", CPUs: cpus, Nets: []Net{{
		Net:       vmm.Net{TAP: tapName, MAC: mac, MTU: 1400},
		Addresses: []netip.Prefix{netip.MustParsePrefix("10.9.0.2/24"), netip.MustParsePrefix("fd09::2/64")},
		Gateways:  []netip.Addr{netip.MustParseAddr("10.9.0.1"), netip.MustParseAddr("fd09::1")},
		Resolvers: []netip.Addr{netip.MustParseAddr("10.9.0.1")},
	}, {Net: vmm.Net{Port: port}, DHCP: true}}})
	hostAddress(t, tapName, "10.9.0.1")

	// Linux looks at links once a second.
	for start := time.Now(); output(t, vm, "cat /sys/class/net/eth0/operstate") != "up"; time.Sleep(100 * time.Millisecond) {
		if time.Since(start) > time.Minute {
			t.Fatal("the guest's interface does not come up")
		}
	}
	for script, want := range map[string]string{
		"cat /sys/class/net/eth0/address":                               mac.String(),
		"cat /sys/class/net/eth0/mtu":                                   "1400",
		"cat /etc/resolv.conf":                                          "nameserver 10.9.0.1\nnameserver 10.8.0.53",
		"grep -c 'fd090000000000000000000000000002' /proc/net/if_inet6": "1",
		"grep -c '^eth0.00000000.0100090A' /proc/net/route":             "1",
		"grep -c '^00000000000000000000000000000000 00 .* fd090000000000000000000000000001 .*eth0' /proc/net/ipv6_route": "1",
		"ping -c 1 10.9.0.1 >/dev/null && echo answers":                                                                  "answers",
		// What is asked for comes after what was told.
		"grep -c '^eth0.00000000.0100090A.[0-9]*.[0-9]*.[0-9]*.0.' /proc/net/route":            "1",
		"grep -c '^eth1.00000000.0100080A.[0-9]*.[0-9]*.[0-9]*.10[0-9][0-9].' /proc/net/route": "1",
		"ping -c 1 10.8.0.1 >/dev/null && echo answers there":                                  "answers there",
	} {
		if got := output(t, vm, script); got != want {
			t.Errorf("%s: %q, want %q", script, got, want)
		}
	}
	select {
	case <-renewed:
	case <-time.After(time.Minute):
		t.Error("a lease of a minute, to be renewed after a second, was not renewed in a minute")
	}
	for start := time.Now(); output(t, vm, "grep -c '^fd08.* eth1$' /proc/net/if_inet6 || true") != "1"; announce(t, asked) {
		if time.Since(start) > time.Minute {
			t.Fatal("the guest took no address of a prefix that a router announces")
		}
	}

	s := vm.Machine().Nets()[0].Stats()
	if s.Malformed != 0 || s.Sent == 0 || s.Received == 0 {
		t.Errorf("%+v", s)
	}
}
