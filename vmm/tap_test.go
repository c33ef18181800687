//go:build soak

package vmm_test

import (
	"fmt"
	"net"
	"os"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"

	"warder/internal/testguest"
	"warder/vmm"
)

const (
	tapHost  = "10.8.0.1"
	tapGuest = "10.8.0.2"
)

var tapClient = testguest.Register("tap-client", func(g *testguest.Guest) {
	interfaceUp(g, tapGuest)
	g.Report("up", nil)
	step := func(name string, err error) {
		if err != nil {
			g.Fatal(name, ": ", err)
		}
		g.Report(name, nil)
	}
	step("tcp", talk(tapHost, ' ', bulkSize, 1))
	step("udp", echoes(tapHost))
	setFeature(g, netInterface, "rx-gro-hw", false)
	step("without offloads to receive by", talk(tapHost, ' ', bulkSize, 2))
	setFeature(g, netInterface, "rx-gro-hw", true)
	ethtool(g, netInterface, ethtoolSetTSO, 0)
	ethtool(g, netInterface, ethtoolSetTxCsum, 0)
	step("without offloads to send by", talk(tapHost, ' ', bulkSize, 3))
	g.Check(quit(tapHost))
})

// TestGuestOnATAP has a guest talk to this machine's own network.
func TestGuestOnATAP(t *testing.T) {
	cpus := min(2, runtime.NumCPU())
	name := fmt.Sprintf("wtest%d", os.Getpid()%100000)
	r := tapClient.Start(t, vmm.Config{CPUs: cpus, Nets: []vmm.Net{{TAP: name}}})
	r.Event("up")
	setAddress(t, name, tapHost)
	served := make(chan error, 1)
	go func() { served <- answer(tapHost, func(byte) {}) }()
	stats := r.Nets()[0].Stats
	r.Event("tcp")
	// Both ways in fewer frames than the MTU allows, not one of them cut by us.
	if s := stats(); s.Segments != 0 || s.Received > bulkSize/1500 || s.Sent > bulkSize/1500+s.Received || s.SentBytes < bulkSize || s.ReceivedBytes < bulkSize {
		t.Errorf("%+v", s)
	}
	r.Event("udp")
	r.Event("without offloads to receive by")
	// The kernel cuts for a guest that does not take it whole, as it was told to.
	if s := stats(); s.Segments > 100 || s.Received < bulkSize/1500 {
		t.Errorf("%+v", s)
	}
	r.Event("without offloads to send by")
	if s := stats(); s.Malformed != 0 || s.NoBuffer != 0 || s.Sent < bulkSize/1500 {
		t.Errorf("%+v", s)
	}
	r.Finish()
	if err := <-served; err != nil {
		t.Error(err)
	}
}

// setAddress gives an interface of this machine an address.
func setAddress(t *testing.T, name, ip string) {
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
		if err != nil {
			t.Fatal(err)
		}
		if err := ifr.SetInet4Addr(set.address); err != nil {
			t.Fatal(err)
		}
		if err := unix.IoctlIfreq(fd, set.request, ifr); err != nil {
			t.Fatalf("address of %s: %v", name, err)
		}
	}
}
