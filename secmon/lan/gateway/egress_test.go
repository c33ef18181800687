package gateway

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"golang.org/x/net/dns/dnsmessage"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"

	"warder/secmon/lan"
	"warder/secmon/lan/packet"
)

func TestEgress(t *testing.T) {
	s := lan.New(lan.Config{})
	g, o := newGateway(t, s)
	web, db := plug(t, s, "web", 2), plug(t, s, "db", 3)
	g.SetEgress(map[string][]Egress{
		"web": {
			{Names: []string{"*.example.org"}, Proto: packet.TCP, First: 443, Last: 443},
			{Networks: []netip.Prefix{netip.MustParsePrefix("203.0.113.0/24"), netip.MustParsePrefix("2001:db8:1::/48")}, First: 80, Last: 90},
			{Networks: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("127.0.0.0/8")}}, // inside, and the host's own
		},
	})
	try := func(from *client, to string, open bool) {
		t.Helper()
		conn, err := from.dial(to)
		if !open {
			if err == nil {
				conn.Close()
				t.Errorf("%s reached %s", from.port.Name(), to)
			}
			return
		}
		if err != nil {
			t.Errorf("%s does not reach %s: %v", from.port.Name(), to, err)
			return
		}
		defer conn.Close()
		if got := <-o.dialed; got != "tcp "+to {
			t.Errorf("dialled %s for %s", got, to)
		}
		want := strings.Repeat("echo ", 50000)
		go func() { _, _ = io.WriteString(conn, want); _ = conn.(*gonet.TCPConn).CloseWrite() }()
		got := make([]byte, len(want))
		if _, err := io.ReadFull(conn, got); err != nil || string(got) != want {
			t.Errorf("%s through %s: %d bytes are not what was sent: %v", from.port.Name(), to, len(got), err)
		}
	}
	try(web, "203.0.113.1:80", true)
	try(web, "[2001:db8:1::9]:90", true)
	try(web, "203.0.113.1:91", false)
	try(db, "203.0.113.1:80", false)
	for _, to := range []string{"10.7.0.77:80", "10.8.0.2:80", "127.0.0.1:80", "10.255.255.255:80", "[::ffff:10.8.0.2]:80"} {
		if may := g.mayReach(web.port, packet.TCP, netip.MustParseAddrPort(to)); may != (to == "10.255.255.255:80") {
			t.Errorf("%s: %v", to, may)
		}
	}
	try(web, "10.8.0.2:80", false)
	try(web, "198.51.100.7:443", false) // not before it was told so
	if got, _ := web.ask("deb.example.org.", dnsmessage.TypeA); !slices.Equal(got, []string{"198.51.100.7"}) {
		t.Errorf("a name's addresses: %v, want the one that is outside", got)
	}
	try(web, "198.51.100.7:443", true)
	try(web, "198.51.100.7:80", false)
	try(db, "198.51.100.7:443", false)
	if got, code := web.ask("other.example.", dnsmessage.TypeA); !slices.Equal(got, []string{"203.0.113.1"}) {
		t.Errorf("of a name that is not declared, addresses of declared networks: %v, %v", got, code)
	}
	try(web, "198.51.100.9:443", false)
	try(web, "203.0.113.1:85", false)
	<-o.dialed // the last was tried
	web.port.Isolate(true)
	if p := g.mayReach(web.port, packet.TCP, netip.MustParseAddrPort("203.0.113.1:80")); p {
		t.Error("a port that is cut off may go outside")
	}
	select {
	case got := <-o.dialed:
		t.Errorf("dialled %s", got)
	default:
	}
}

func TestEgressUDP(t *testing.T) {
	s := lan.New(lan.Config{})
	g, o := newGateway(t, s)
	web := plug(t, s, "web", 2)
	g.SetEgress(map[string][]Egress{"web": {{Networks: []netip.Prefix{netip.MustParsePrefix("203.0.113.0/24")}, Proto: packet.UDP, First: 123, Last: 123}}})
	a := netip.MustParseAddr("203.0.113.5")
	conn, err := gonet.DialUDP(web.stack, nil, &tcpip.FullAddress{NIC: nic, Addr: toAddress(a), Port: 123}, number(a))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	for range 3 {
		b := make([]byte, 100)
		if n := exchange(t, conn, []byte("what time is it?"), b); string(b[:n]) != "what time is it?" {
			t.Fatalf("%q", b[:n])
		}
	}
	if got := <-o.dialed; got != "udp 203.0.113.5:123" || len(o.dialed) != 0 {
		t.Errorf("dialled %s and %d more", got, len(o.dialed))
	}
	if g.mayReach(web.port, packet.TCP, netip.MustParseAddrPort("203.0.113.5:123")) {
		t.Error("UDP alone was declared")
	}
}

// TestEgressChanges has what is declared change a thousand times under open connections:
// those that stay declared go on, the others end at once.
func TestEgressChanges(t *testing.T) {
	s := lan.New(lan.Config{})
	g, _ := newGateway(t, s)
	web := plug(t, s, "web", 2)
	named := []Egress{{Names: []string{"deb.example.org"}, Proto: packet.TCP, First: 443, Last: 443}}
	both := append(named, Egress{Networks: []netip.Prefix{netip.MustParsePrefix("203.0.113.0/24")}})
	g.SetEgress(map[string][]Egress{"web": both})
	web.ask("deb.example.org.", dnsmessage.TypeA)
	var conns []net.Conn
	for _, to := range []string{"198.51.100.7:443", "203.0.113.1:80"} {
		c, err := web.dial(to)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		conns = append(conns, c)
	}
	word := make([]byte, 4)
	echoes := func(c net.Conn) error {
		if _, err := io.WriteString(c, "word"); err != nil {
			return err
		}
		_, err := io.ReadFull(c, word)
		return err
	}
	if err := errors.Join(echoes(conns[0]), echoes(conns[1])); err != nil {
		t.Fatal(err)
	}
	for n := range 1000 {
		by := map[string][]Egress{"web": named, fmt.Sprint(n): both}
		g.SetEgress(by)
		if err := echoes(conns[0]); err != nil {
			t.Fatalf("after %d changes: %v", n, err)
		}
	}
	if err := echoes(conns[1]); err == nil {
		t.Error("a connection that is not declared any more is open")
	}
	if c, err := web.dial("203.0.113.1:80"); err == nil {
		c.Close()
		t.Error("one that is not declared any more opens")
	}
}
