package system

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"warder/guestinit/dhcp"
	"warder/guestinit/proto"
)

// TestRtnetlink configures the loopback interface of a network of its own.
func TestRtnetlink(t *testing.T) {
	flags := unix.CLONE_NEWNET
	if os.Getuid() != 0 {
		t.Log("without root only the messages are tried, which the kernel refuses")
		flags = 0
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // for good: the thread ends with its network
		if err := unix.Unshare(flags); err != nil {
			t.Error(err)
			return
		}
		r, err := openRtnetlink()
		if err != nil {
			t.Error(err)
			return
		}
		defer r.close()
		const lo = 1
		if flags == 0 {
			if err := r.linkUp(lo, 1400); err != unix.EPERM {
				t.Errorf("without root: %v", err)
			}
			return
		}
		if err := r.linkUp(lo, 1400); err != nil {
			t.Error(err)
		}
		four, six := netip.MustParsePrefix("10.1.2.3/20"), netip.MustParsePrefix("fd00::3/64")
		for range 2 { // again is no error
			for _, p := range []netip.Prefix{four, six} {
				if err := r.addAddress(lo, p, dhcp.Forever); err != nil {
					t.Errorf("%v: %v", p, err)
				}
			}
		}
		// The kernel has no IPv6 neighbours on this interface.
		if err := r.addDefaultRoute(lo, netip.MustParseAddr("10.1.0.1")); err != nil {
			t.Error(err)
		}
		if err := r.addDefaultRoute(lo, netip.MustParseAddr("192.0.2.1")); err != unix.ENETUNREACH {
			t.Errorf("a gateway that is nowhere: %v", err)
		}
		if err := r.addAddress(99, four, dhcp.Forever); err != unix.ENODEV {
			t.Errorf("an interface that is not there: %v", err)
		}
		i, err := net.InterfaceByIndex(lo)
		if err != nil || i.MTU != 1400 || i.Flags&net.FlagUp == 0 {
			t.Errorf("interface %+v, %v", i, err)
		}
		addrs, err := i.Addrs()
		if err != nil {
			t.Error(err)
		}
		var got []string
		for _, a := range addrs {
			got = append(got, a.String())
		}
		for _, want := range []string{"10.1.2.3/20", "fd00::3/64"} {
			if !strings.Contains(strings.Join(got, " "), want) {
				t.Errorf("addresses %q lack %s", got, want)
			}
		}
		// /proc/net/route has the destination and the gateway in the CPU's byte order.
		routes, err := os.ReadFile("/proc/thread-self/net/route")
		if err != nil || !strings.Contains(string(routes), "lo\t00000000\t0100010A") {
			t.Errorf("routes %s, %v", routes, err)
		}
		tryLeases(t, i)
	}()
	<-done
}

// tryLeases has an interface of the calling thread's network be lent addresses.
func tryLeases(t *testing.T, link *net.Interface) {
	has := func(what string) bool {
		routes, err := os.ReadFile("/proc/thread-self/net/route")
		addrs, err2 := link.Addrs()
		if err != nil || err2 != nil {
			t.Error(err, err2)
		}
		return strings.Contains(fmt.Sprint(string(routes), addrs), what)
	}
	first := dhcp.Lease{
		Address: netip.MustParsePrefix("10.7.0.2/24"), Duration: time.Hour,
		Routes: []dhcp.Route{
			{To: netip.MustParsePrefix("192.0.2.0/24"), Via: netip.IPv4Unspecified()},
			{To: netip.MustParsePrefix("198.51.100.0/24"), Via: netip.MustParseAddr("10.7.0.1")},
		},
	}
	second := dhcp.Lease{Address: netip.MustParsePrefix("10.7.0.3/24"), Duration: dhcp.Forever}
	short := dhcp.Lease{Address: netip.MustParsePrefix("10.7.0.4/24"), Duration: time.Second}
	onLink, routed := "lo\t000200C0\t00000000", "lo\t006433C6\t0100070A"
	for _, step := range []struct {
		was, now   dhcp.Lease
		has, hasnt []string
	}{
		{dhcp.Lease{}, first, []string{"10.7.0.2/24", onLink, routed}, nil},
		{first, first, []string{"10.7.0.2/24", onLink, routed}, nil}, // renewed
		{first, second, []string{"10.7.0.3/24"}, []string{"10.7.0.2/24", onLink, routed}},
		{second, dhcp.Lease{}, nil, []string{"10.7.0.3/24"}},
		{second, dhcp.Lease{}, nil, nil}, // the kernel was first
		{dhcp.Lease{}, short, nil, nil},
	} {
		if err := SetLease(link, step.was, step.now); err != nil {
			t.Errorf("from %v to %v: %v", step.was, step.now, err)
		}
		for _, want := range step.has {
			if !has(want) {
				t.Errorf("from %v to %v: %q is not there", step.was, step.now, want)
			}
		}
		for _, gone := range step.hasnt {
			if has(gone) {
				t.Errorf("from %v to %v: %q is there still", step.was, step.now, gone)
			}
		}
	}
	for start := time.Now(); has("10.7.0.4/24"); time.Sleep(50 * time.Millisecond) {
		if time.Since(start) > time.Minute {
			t.Error("the kernel left an address that was leased for a second")
			return
		}
	}
}

func TestResolvers(t *testing.T) {
	r := Resolvers{path: filepath.Join(t.TempDir(), "resolv.conf")}
	if err := r.Set("", nil); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(r.path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a guest's own resolvers were overwritten with none (%v)", err)
	}
	for _, step := range []struct{ source, servers, want string }{
		{"eth0", "10.0.0.1", "nameserver 10.0.0.1\n"},
		{"", "9.9.9.9", "nameserver 9.9.9.9\nnameserver 10.0.0.1\n"},
		{"eth0", "10.0.0.2 10.0.0.3", "nameserver 9.9.9.9\nnameserver 10.0.0.2\nnameserver 10.0.0.3\n"},
		{"eth0", "", "nameserver 9.9.9.9\n"},
	} {
		if err := r.Set(step.source, strings.Fields(step.servers)); err != nil {
			t.Error(err)
		}
		if got, err := os.ReadFile(r.path); err != nil || string(got) != step.want {
			t.Errorf("%q of %q: %q, error %v, want %q", step.servers, step.source, got, err, step.want)
		}
	}
}

func TestBroadcast(t *testing.T) {
	for p, want := range map[string]string{"10.1.2.3/20": "10.1.15.255", "192.0.2.7/30": "192.0.2.7", "10.0.0.1/0": "255.255.255.255"} {
		if got := broadcast(netip.MustParsePrefix(p)).String(); got != want {
			t.Errorf("%s: %s, want %s", p, got, want)
		}
	}
}

func TestInterfaceThatIsNotThere(t *testing.T) {
	_, err := SetInterface(proto.Interface{MAC: "02:11:22:33:44:55"})
	if err == nil || !strings.Contains(err.Error(), "virtio_net") {
		t.Error(err)
	}
}
