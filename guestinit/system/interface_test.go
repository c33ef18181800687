package system

import (
	"net"
	"net/netip"
	"os"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

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
				if err := r.addAddress(lo, p); err != nil {
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
		if err := r.addAddress(99, four); err != unix.ENODEV {
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
	}()
	<-done
}

func TestBroadcast(t *testing.T) {
	for p, want := range map[string]string{"10.1.2.3/20": "10.1.15.255", "192.0.2.7/30": "192.0.2.7", "10.0.0.1/0": "255.255.255.255"} {
		if got := broadcast(netip.MustParsePrefix(p)).String(); got != want {
			t.Errorf("%s: %s, want %s", p, got, want)
		}
	}
}

func TestInterfaceThatIsNotThere(t *testing.T) {
	err := SetInterface(proto.Interface{MAC: "02:11:22:33:44:55"})
	if err == nil || !strings.Contains(err.Error(), "virtio_net") {
		t.Error(err)
	}
}
