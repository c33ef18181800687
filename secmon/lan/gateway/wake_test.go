package gateway

import (
	"context"
	"errors"
	"io"
	"sync/atomic"
	"testing"

	"golang.org/x/net/dns/dnsmessage"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"

	vnet "warder/devices/virtio/net"
	"warder/secmon/lan"
	"warder/secmon/lan/packet"
	"warder/secmon/lan/request"
)

// TestReadOnDemand has one service make requests of another that the gateway reads, and that
// sleeps: it is brought up for each conversation, and let go of with it.
func TestReadOnDemand(t *testing.T) {
	s := lan.New(lan.Config{})
	held, released := make(chan string, 8), make(chan struct{}, 8)
	alive, gone := context.WithCancel(t.Context())
	var up func()
	var fails atomic.Bool
	newGateway(t, s, func(c *Config) {
		c.Hold = func(_ context.Context, service, by string) (context.Context, func(), error) {
			no := fails.Load()
			if !no && up != nil {
				up()
				up = nil
			}
			held <- by + " > " + service
			if no {
				return nil, nil, errors.New("it does not start")
			}
			return alive, func() { released <- struct{}{} }, nil
		}
	})
	web := plug(t, s, "web", 2)
	api := plugAs(t, s, "api", 3, vnet.MAC{2, 0, 0, 0, 0, 3}, func(c *lan.PortConfig) {
		c.Wake = func(_, by *lan.Port) { t.Errorf("%s wakes it past the gateway", by.Name()) }
	})
	api.port.Stop() // it is not there
	u, err := gonet.DialUDP(api.stack, &tcpip.FullAddress{NIC: nic, Addr: toAddress(api.addrs[0]), Port: 53}, nil, number(api.addrs[0]))
	if err != nil {
		t.Fatal(err)
	}
	defer u.Close()
	go func() {
		b := make([]byte, 2000)
		for n, from, err := u.ReadFrom(b); err == nil; n, from, err = u.ReadFrom(b) {
			_, _ = u.WriteTo(b[:n], from)
		}
	}()
	up = func() {
		if err := api.port.Start(api); err != nil {
			t.Error(err)
		}
		api.serve(t, new(server))
	}
	if err := s.SetRules([]lan.Rule{
		{From: "web", To: "api", Proto: packet.TCP, First: 80, Last: 80, HTTP: &request.HTTP{Paths: []string{"/v1/*"}}},
		{From: "web", To: "api", Proto: packet.UDP, First: 53, Last: 53, DNS: &request.DNS{Names: []string{"*.example.org"}}},
	}); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		c, err := web.dial("10.7.0.3:80")
		if err != nil {
			t.Fatal(err)
		}
		if by := <-held; by != "web > api" {
			t.Errorf("held for %s", by)
		}
		if got := said(t, c, "GET /v1/a HTTP/1.1\r\nHost: api\r\n\r\n"); got != "200 you asked for /v1/a" {
			t.Errorf("%q", got)
		}
		if len(released) > 0 {
			t.Error("let go of in the middle of a connection")
		}
		c.Close()
		<-released
	}
	m := dnsmessage.Message{Questions: []dnsmessage.Question{{Name: dnsmessage.MustNewName("a.example.org."), Type: dnsmessage.TypeA, Class: dnsmessage.ClassINET}}}
	question, err := m.Pack()
	if err != nil {
		t.Fatal(err)
	}
	asks, err := gonet.DialUDP(web.stack, nil, &tcpip.FullAddress{NIC: nic, Addr: toAddress(api.addrs[0]), Port: 53}, number(api.addrs[0]))
	if err != nil {
		t.Fatal(err)
	}
	defer asks.Close()
	exchange(t, asks, question, make([]byte, 2000))
	<-held
	c, err := web.dial("10.7.0.3:80")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	<-held
	gone()                        // its VM
	_, _ = io.Copy(io.Discard, c) // until it ends, in whatever way
	<-released
	<-released // the question's too
	fails.Store(true)
	if c, err := web.dial("10.7.0.3:80"); err == nil {
		c.Close()
		t.Error("connected with what did not start")
	}
	<-held
}
