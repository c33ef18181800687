package gateway

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"

	vnet "warder/devices/virtio/net"
	"warder/secmon/lan"
)

func TestPublish(t *testing.T) {
	s := lan.New(lan.Config{})
	g, _ := newGateway(t, s)
	web := plug(t, s, "web", 2)
	l, err := gonet.ListenTCP(web.stack, tcpip.FullAddress{NIC: nic, Port: 80}, ipv4.ProtocolNumber)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go acceptAll(l, func(c net.Conn) {
		_, _ = io.WriteString(c, "hello "+c.RemoteAddr().(*net.TCPAddr).IP.String())
		c.Close()
	})
	for port, want := range map[uint16]string{80: "hello 10.7.0.1", 81: ""} {
		at := publish(t, g, netip.AddrPortFrom(web.addrs[0], port), nil)
		conn, err := net.Dial("tcp", at.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		got, _ := io.ReadAll(conn)
		conn.Close()
		if string(got) != want {
			t.Errorf("port %d: %q, want %q", port, got, want)
		}
	}
	// Where it leads elsewhere, or is no more, its connections end.
	echo, err := gonet.ListenTCP(web.stack, tcpip.FullAddress{NIC: nic, Port: 7}, ipv4.ProtocolNumber)
	if err != nil {
		t.Fatal(err)
	}
	defer echo.Close()
	at := publish(t, g, netip.AddrPortFrom(web.addrs[0], 80), nil)
	for _, end := range []func(){func() { at.Lead(g, netip.AddrPortFrom(web.addrs[0], 80), nil) }, at.Close} {
		at.Lead(g, netip.AddrPortFrom(web.addrs[0], 7), nil)
		conn, err := net.Dial("tcp", at.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		inside, err := echo.Accept()
		if err != nil {
			t.Fatal(err)
		}
		defer inside.Close()
		end()
		if n, err := conn.Read(make([]byte, 1)); err == nil {
			t.Errorf("%d bytes of nobody", n)
		}
		if n, err := inside.Read(make([]byte, 1)); err == nil {
			t.Errorf("%d bytes of nobody inside", n)
		}
	}
	if c, err := net.Dial("tcp", at.Addr().String()); err == nil {
		c.Close()
		t.Error("somebody listens still")
	}
}

func publish(t *testing.T, g *Gateway, to netip.AddrPort, hold Hold) *Published {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := NewPublished(l)
	t.Cleanup(p.Close)
	p.Lead(g, to, hold)
	return p
}

// What has the address of another that is gone is reached at once, though the gateway has
// just spoken with that one.
func TestForget(t *testing.T) {
	s := lan.New(lan.Config{})
	g, _ := newGateway(t, s)
	reached := func(name string, mac byte) *lan.Port {
		t.Helper()
		c := plugAs(t, s, name, 2, vnet.MAC{2, 0, 0, 0, 1, mac})
		l, err := gonet.ListenTCP(c.stack, tcpip.FullAddress{NIC: nic, Port: 80}, ipv4.ProtocolNumber)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { l.Close() })
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		inside, err := g.dialWhenReady(ctx, ctx, netip.AddrPortFrom(c.addrs[0], 80)) // whatever stalls meanwhile
		if err != nil {
			t.Fatal(err)
		}
		inside.Close()
		return c.port
	}
	old := reached("old", 1)
	known := func() (mac tcpip.LinkAddress) {
		t.Helper()
		all, err := g.stack.Neighbors(nic, ipv4.ProtocolNumber)
		if err != nil {
			t.Fatal(err)
		}
		for _, n := range all {
			if n.Addr == toAddress(old.Config().Addresses[0]) {
				mac = n.LinkAddr
			}
		}
		return mac
	}
	if known() == "" {
		t.Fatal("where the old one was is not known")
	}
	s.Remove(old)
	g.Forget(old)
	if mac := known(); mac != "" {
		t.Errorf("it is at %v still", mac)
	}
	reached("new", 2)
}

// A connection to a port of what is started on demand waits until there is somebody who
// takes it, and ends with it.
func TestPublishOnDemand(t *testing.T) {
	s := lan.New(lan.Config{})
	g, _ := newGateway(t, s)
	web := plug(t, s, "web", 2)
	held := make(chan struct{}, 8)
	released := make(chan struct{}, 8)
	alive, gone := context.WithCancel(t.Context())
	var fails atomic.Bool
	hold := func(context.Context) (context.Context, func(), error) {
		no := fails.Load()
		held <- struct{}{}
		if no {
			return nil, nil, errors.New("it does not start")
		}
		return alive, func() { released <- struct{}{} }, nil
	}
	at := publish(t, g, netip.AddrPortFrom(web.addrs[0], 80), hold)
	dial := func() net.Conn {
		t.Helper()
		c, err := net.Dial("tcp", at.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		<-held
		return c
	}
	early := dial() // nobody listens yet
	l, err := gonet.ListenTCP(web.stack, tcpip.FullAddress{NIC: nic, Port: 80}, ipv4.ProtocolNumber)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go acceptAll(l, func(c net.Conn) { _, _ = io.WriteString(c, "hello") })
	hears := func(c net.Conn) {
		t.Helper()
		b := make([]byte, 5)
		if _, err := io.ReadFull(c, b); err != nil || string(b) != "hello" {
			t.Errorf("%q, %v", b, err)
		}
	}
	hears(early)
	other := dial()
	hears(other)
	early.Close()
	other.Close()
	left := dial()
	hears(left)
	gone()
	if _, err := left.Read(make([]byte, 1)); err == nil {
		t.Error("it goes on where nobody is any more")
	}
	fails.Store(true)
	if n, err := dial().Read(make([]byte, 1)); err == nil {
		t.Errorf("%d bytes of what did not start", n)
	}
	<-released // of the one that ended with what it was for, at least
}
