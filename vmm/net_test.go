//go:build soak

package vmm_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	vnet "warder/devices/virtio/net"
	"warder/internal/testguest"
	"warder/vmm"
)

const (
	netInterface = "eth0"
	serverIP     = "10.0.0.2"
	clientIP     = "10.0.0.1"
	netPort      = "7"
)

// interfaceUp gives the interface an address and brings it up.
func interfaceUp(g *testguest.Guest, ip string) {
	// Without duplicate address detection its IPv6 address is good at once.
	g.Check(os.WriteFile("/proc/sys/net/ipv6/conf/default/accept_dad", []byte("0"), 0))
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	g.Check(err)
	defer unix.Close(fd)
	set := func(name string, request uint, fill func(*unix.Ifreq) error) {
		ifr, err := unix.NewIfreq(name)
		g.Check(err)
		g.Check(fill(ifr))
		if err := unix.IoctlIfreq(fd, request, ifr); err != nil {
			g.Fatal(fmt.Sprintf("ioctl %#x: %v", request, err))
		}
	}
	up := func(ifr *unix.Ifreq) error { ifr.SetUint16(unix.IFF_UP | unix.IFF_RUNNING); return nil }
	set("lo", unix.SIOCSIFFLAGS, up) // package net looks there for what IPv6 can do
	set(netInterface, unix.SIOCSIFADDR, func(ifr *unix.Ifreq) error { return ifr.SetInet4Addr(net.ParseIP(ip).To4()) })
	set(netInterface, unix.SIOCSIFNETMASK, func(ifr *unix.Ifreq) error { return ifr.SetInet4Addr(net.IP{255, 255, 255, 0}) })
	set(netInterface, unix.SIOCSIFFLAGS, up)
}

// answer serves the other end of talk and echoes at an address until it is told to
// quit.
func answer(ip string, ask func(kind byte)) error {
	udp, err := net.ListenPacket("udp", net.JoinHostPort(ip, netPort))
	if err != nil {
		return err
	}
	defer udp.Close()
	go func() {
		buf := make([]byte, 65536)
		for {
			n, from, err := udp.ReadFrom(buf)
			if errors.Is(err, net.ErrClosed) {
				return
			}
			if err == nil {
				udp.WriteTo(buf[:n], from)
			}
		}
	}()
	tcp, err := net.Listen("tcp", net.JoinHostPort(ip, netPort))
	if err != nil {
		return err
	}
	defer tcp.Close()
	for {
		c, err := tcp.Accept()
		if errors.Is(err, net.ErrClosed) {
			return nil
		}
		if err != nil {
			return err
		}
		go func() {
			defer c.Close()
			var head [17]byte
			if _, err := io.ReadFull(c, head[:]); err != nil {
				return
			}
			if head[16] == 'q' {
				tcp.Close()
				return
			}
			ask(head[16])
			noise(binary.LittleEndian.Uint64(head[8:]), int64(binary.LittleEndian.Uint64(head[:])), c)
			h := crc32.NewIEEE()
			if _, err := io.Copy(h, c); err != nil {
				return
			}
			c.Write(h.Sum(nil))
		}()
	}
}

// netServer answers, and switches its offloads as it is asked to.
var netServer = testguest.Register("net-server", func(g *testguest.Guest) {
	interfaceUp(g, serverIP)
	g.Check(answer("", func(kind byte) {
		switch kind {
		case 'o': // receive without offloads, until it is told otherwise
			setFeature(g, netInterface, "rx-gro-hw", false)
		case 'O':
			setFeature(g, netInterface, "rx-gro-hw", true)
		}
	}))
})

// noise writes n bytes that follow from seed.
func noise(seed uint64, n int64, w io.Writer) error {
	var key [32]byte
	binary.LittleEndian.PutUint64(key[:], seed)
	_, err := io.CopyN(w, rand.NewChaCha8(key), n)
	return err
}

// talk moves n bytes each way over one connection and makes sure that all come.
func talk(host string, kind byte, n int64, seed uint64) error {
	c, err := dialPeer(host)
	if err != nil {
		return err
	}
	defer c.Close()
	head := binary.LittleEndian.AppendUint64(nil, uint64(n))
	head = append(binary.LittleEndian.AppendUint64(head, seed), kind)
	if _, err := c.Write(head); err != nil {
		return err
	}
	want, got := crc32.NewIEEE(), crc32.NewIEEE()
	if err := noise(seed, n, want); err != nil {
		return err
	}
	if m, err := io.CopyN(got, c, n); err != nil {
		return fmt.Errorf("after %d of %d bytes: %w", m, n, err)
	}
	if !bytes.Equal(want.Sum(nil), got.Sum(nil)) {
		return errors.New("other bytes came than were sent to us")
	}
	want.Reset()
	if err := noise(seed+1, n, io.MultiWriter(want, c)); err != nil {
		return err
	}
	if err := c.(*net.TCPConn).CloseWrite(); err != nil {
		return err
	}
	digest, err := io.ReadAll(c)
	if err != nil {
		return err
	}
	if !bytes.Equal(digest, want.Sum(nil)) {
		return errors.New("other bytes came than we sent")
	}
	return nil
}

// dialPeer waits for the other guest to be there.
func dialPeer(host string) (net.Conn, error) {
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
		c, err := net.DialTimeout("tcp", net.JoinHostPort(host, netPort), 10*time.Second)
		if err == nil || time.Now().After(deadline) {
			return c, err
		}
	}
}

// echoes has datagrams of all sizes come back, those that IP has to cut too.
func echoes(host string) error {
	c, err := net.Dial("udp", net.JoinHostPort(host, netPort))
	if err != nil {
		return err
	}
	defer c.Close()
	buf := make([]byte, 65536)
	for size := 0; size < 20000; size = size*3/2 + 1 {
		b := bytes.Repeat([]byte{byte(size)}, size)
		for try := 0; ; try++ { // UDP may lose some
			if _, err := c.Write(b); err != nil {
				return err
			}
			c.SetReadDeadline(time.Now().Add(2 * time.Second))
			n, err := c.Read(buf)
			if err == nil && bytes.Equal(buf[:n], b) {
				break
			}
			if try == 20 {
				return fmt.Errorf("%d bytes did not come back: %d did, %v", size, n, err)
			}
		}
	}
	return nil
}

const bulkSize = 1 << 20

// netClient does all that the host looks at, step by step. Before each step it says
// what is next and waits for the interface's link, which the host may have cut.
var netClient = testguest.Register("net-client", func(g *testguest.Guest) {
	interfaceUp(g, clientIP)
	step := func(name string, err error) {
		if err != nil {
			g.Fatal(name, ": ", err)
		}
		g.Report(name, nil)
	}
	step("tcp", talk(serverIP, ' ', bulkSize, 1))
	step("udp", echoes(serverIP))
	mac, err := os.ReadFile("/sys/class/net/" + netInterface + "/address")
	g.Check(err)
	g.Report("mac", strings.TrimSpace(string(mac)))
	mtu, err := os.ReadFile("/sys/class/net/" + netInterface + "/mtu")
	g.Check(err)
	g.Report("mtu", strings.TrimSpace(string(mtu)))

	// The server's IPv6 address follows from its MAC.
	server6 := peerIPv6() + "%" + netInterface
	step("tcp over IPv6", talk(server6, ' ', bulkSize, 2))

	step("the receiver without offloads", talk(serverIP, 'o', bulkSize, 3))
	step("the receiver without offloads, over IPv6", talk(server6, ' ', bulkSize, 3))
	step("the receiver with offloads again", talk(serverIP, 'O', bulkSize, 4))
	ethtool(g, netInterface, ethtoolSetTSO, 0)
	step("the sender without TSO", talk(serverIP, ' ', bulkSize, 5))
	ethtool(g, netInterface, ethtoolSetTxCsum, 0)
	step("the sender without checksums", talk(serverIP, ' ', bulkSize, 6))
	ethtool(g, netInterface, ethtoolSetTxCsum, 1)
	ethtool(g, netInterface, ethtoolSetTSO, 1)

	queues, err := filepath.Glob("/sys/class/net/" + netInterface + "/queues/rx-*")
	g.Check(err)
	g.Report("queues", len(queues))
	step("many connections", talkMany(8))
	if len(queues) > 1 {
		ethtool(g, netInterface, ethtoolSetChannels, channels(1)...)
		step("with one queue", talkMany(4))
		ethtool(g, netInterface, ethtoolSetChannels, channels(len(queues))...)
	}
	step("before the link goes", talkMany(4))

	waitCarrier(g, false)
	step("link down", nil)
	waitCarrier(g, true)
	step("link up", talk(serverIP, ' ', bulkSize, 7))

	// The driver goes and comes while there is traffic, which does not survive it.
	for range 3 {
		rebind(g)
	}
	step("after the driver was bound again", talk(serverIP, ' ', bulkSize, 8))
	reload(g, "/modules/*-virtio_net.ko")
	step("after the module was loaded again", talk(serverIP, ' ', bulkSize, 9))
	g.Check(quit(serverIP))
})

// quit ends what answers.
func quit(host string) error {
	c, err := dialPeer(host)
	if err != nil {
		return err
	}
	defer c.Close()
	_, err = c.Write(append(make([]byte, 16), 'q'))
	return err
}

// channels are the words of struct ethtool_channels for n combined ones.
func channels(n int) []uint32 { return []uint32{7: uint32(n)} }

func talkMany(n int) error {
	var all sync.WaitGroup
	errs := make([]error, n)
	for i := range n {
		all.Go(func() { errs[i] = talk(serverIP, ' ', bulkSize/int64(n), uint64(100+i)) })
	}
	all.Wait()
	return errors.Join(errs...)
}

// peerIPv6 is the link-local address that a MAC makes (RFC 4291, appendix A).
func peerIPv6() string {
	m := vmm.DefaultMAC("net-server", 0)
	return net.IP{0: 0xfe, 1: 0x80, 8: m[0] ^ 2, 9: m[1], 10: m[2], 11: 0xff, 12: 0xfe, 13: m[3], 14: m[4], 15: m[5]}.String()
}

func waitCarrier(g *testguest.Guest, up bool) {
	want := map[bool]string{false: "0", true: "1"}[up]
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(5 * time.Millisecond) {
		b, err := os.ReadFile("/sys/class/net/" + netInterface + "/carrier")
		g.Check(err)
		if strings.TrimSpace(string(b)) == want {
			return
		}
		if time.Now().After(deadline) {
			g.Fatal("the carrier does not become ", want)
		}
	}
}

// underLoad does something to the driver while a connection sends, and waits for that
// to fail.
func underLoad(g *testguest.Guest, f func()) {
	c, err := dialPeer(serverIP)
	g.Check(err)
	ended := make(chan struct{})
	head := append(make([]byte, 16), ' ')
	_, err = c.Write(head)
	g.Check(err)
	moving := make(chan struct{})
	go func() {
		defer close(ended)
		block := make([]byte, 64<<10)
		for i := 0; ; i++ {
			if _, err := c.Write(block); err != nil {
				return
			}
			if i == 8 {
				close(moving)
			}
		}
	}()
	<-moving
	f()
	c.(*net.TCPConn).SetLinger(0)
	c.Close()
	<-ended
}

func rebind(g *testguest.Guest) {
	const driver = "/sys/bus/virtio/drivers/virtio_net"
	link, err := os.Readlink("/sys/class/net/" + netInterface + "/device")
	g.Check(err)
	underLoad(g, func() { g.Check(os.WriteFile(driver+"/unbind", []byte(filepath.Base(link)), 0)) })
	g.Check(os.WriteFile(driver+"/bind", []byte(filepath.Base(link)), 0))
	interfaceUp(g, clientIP)
}

// reload unloads the driver's module under load, unless it is part of the kernel.
func reload(g *testguest.Guest, pattern string) {
	found, err := filepath.Glob(pattern)
	g.Check(err)
	if len(found) == 0 {
		return
	}
	underLoad(g, func() { g.Check(unix.DeleteModule("virtio_net", 0)) })
	f, err := os.Open(found[0])
	g.Check(err)
	defer f.Close()
	g.Check(unix.FinitModule(int(f.Fd()), "", 0))
	interfaceUp(g, clientIP)
}

func TestTwoGuestsOnAWire(t *testing.T) {
	for _, mtu := range []int{1500, 9000} {
		t.Run(fmt.Sprintf("MTU %d", mtu), func(t *testing.T) {
			cpus := min(2, runtime.NumCPU())
			x, y := vnet.Wire()
			server := netServer.Start(t, vmm.Config{CPUs: cpus, Nets: []vmm.Net{{Port: y, MTU: mtu}}})
			client := netClient.Start(t, vmm.Config{CPUs: cpus, Nets: []vmm.Net{{Port: x, MTU: mtu}}})
			stats := func() vnet.Stats { return server.Nets()[0].Stats() }
			t.Cleanup(func() {
				if t.Failed() {
					t.Logf("server %+v, client %+v", stats(), client.Nets()[0].Stats())
				}
			})

			client.Event("tcp")
			client.Event("udp")
			if mac := testguest.Get[string](client, "mac"); mac != vmm.DefaultMAC("net-client", 0).String() {
				t.Errorf("MAC %s", mac)
			}
			if got := testguest.Get[string](client, "mtu"); got != fmt.Sprint(mtu) {
				t.Errorf("MTU %s", got)
			}
			client.Event("tcp over IPv6")
			// 8 MiB and more have come, in fewer frames than the MTU allows, which nobody
			// has cut.
			if s := stats(); s.Segments != 0 || s.ReceivedBytes < 2*bulkSize || s.Received > 2*bulkSize/1500 {
				t.Errorf("between guests with offloads: %+v", s)
			}
			client.Event("the receiver without offloads")
			client.Event("the receiver without offloads, over IPv6")
			if s := stats(); s.Segments < 2*bulkSize/uint64(mtu)*9/10 {
				t.Errorf("to a guest without offloads: %+v", s)
			}
			client.Event("the receiver with offloads again")
			for _, what := range []string{"the sender without TSO", "the sender without checksums"} {
				client.Event(what)
			}
			queues := testguest.Get[int](client, "queues")
			if queues != cpus {
				t.Errorf("%d queues for %d CPUs", queues, cpus)
			}
			client.Event("many connections")
			if queues > 1 {
				client.Event("with one queue")
			}
			client.Event("before the link goes")
			client.Nets()[0].SetLink(false)
			client.Event("link down")
			client.Nets()[0].SetLink(true)
			client.Event("link up")
			client.Event("after the driver was bound again")
			if s := client.Nets()[0].Stats(); s.Malformed != 0 || s.NoBuffer != 0 {
				t.Errorf("what Linux sends and takes was dropped: %+v", s)
			}
			for _, d := range client.Stats().Devices {
				if d.Name == "net" && (d.Failures != 0 || d.Resets < 3) {
					t.Errorf("%+v", d)
				}
			}
			client.Event("after the module was loaded again")
			client.Finish()
			server.Finish()
		})
	}
}
