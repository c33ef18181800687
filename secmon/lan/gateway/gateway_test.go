package gateway

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"golang.org/x/net/dns/dnsmessage"
	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
	"gvisor.dev/gvisor/pkg/tcpip/link/channel"
	"gvisor.dev/gvisor/pkg/tcpip/link/ethernet"
	"gvisor.dev/gvisor/pkg/tcpip/network/arp"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv6"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/tcpip/transport/udp"

	vnet "warder/devices/virtio/net"
	"warder/secmon/lan"
	"warder/secmon/lan/packet"
)

var (
	network4 = netip.MustParsePrefix("10.7.0.0/24")
	network6 = netip.MustParsePrefix("fd07::/64")
)

// client is a guest: a stack of its own at a port of the switch.
type client struct {
	t     *testing.T
	port  *lan.Port
	addrs []netip.Addr
	stack *stack.Stack
	card  *channel.Endpoint
	in    chan []byte
}

func (*client) Queue(*vnet.Frame) int { return 0 }

func (c *client) Deliver(_ int, f *vnet.Frame, _ int) (int, error) {
	b := slices.Clone(f.Head)
	for _, p := range f.Body {
		b = append(b, p...)
	}
	select {
	case c.in <- b:
		return 0, nil
	default:
		return 0, nil // a guest that is too slow
	}
}

// plug adds a guest with addresses that end in n.
func plug(t *testing.T, s *lan.Switch, name string, n byte) *client {
	t.Helper()
	return plugAs(t, s, name, n, vnet.MAC{2, 0, 0, 0, 0, n})
}

func plugAs(t *testing.T, s *lan.Switch, name string, n byte, mac vnet.MAC, change ...func(*lan.PortConfig)) *client {
	t.Helper()
	a4, a6 := network4.Addr().As4(), network6.Addr().As16()
	a4[3], a6[15] = n, n
	c := &client{t: t, addrs: []netip.Addr{netip.AddrFrom4(a4), netip.AddrFrom16(a6)}, in: make(chan []byte, 1000)}
	cfg := lan.PortConfig{Name: name, VLAN: 7, MAC: mac, Addresses: c.addrs}
	for _, f := range change {
		f(&cfg)
	}
	var err error
	if c.port, err = s.AddPort(cfg); err != nil {
		t.Fatal(err)
	}
	c.stack = stack.New(stack.Options{
		NetworkProtocols:   []stack.NetworkProtocolFactory{ipv4.NewProtocol, ipv6.NewProtocol, arp.NewProtocol},
		TransportProtocols: []stack.TransportProtocolFactory{tcp.NewProtocol, udp.NewProtocol},
	})
	c.card = channel.New(1000, 1514, tcpip.LinkAddress(mac[:]))
	c.card.LinkEPCapabilities = stack.CapabilityRXChecksumOffload
	if err := c.stack.CreateNIC(nic, ethernet.New(c.card)); err != nil {
		t.Fatal(err)
	}
	var routes []tcpip.Route
	for _, a := range c.addrs {
		p := tcpip.ProtocolAddress{Protocol: number(a), AddressWithPrefix: tcpip.AddressWithPrefix{Address: toAddress(a), PrefixLen: map[bool]int{true: 24, false: 64}[a.Is4()]}}
		if err := c.stack.AddProtocolAddress(nic, p, stack.AddressProperties{}); err != nil {
			t.Fatal(err)
		}
		routes = append(routes, tcpip.Route{Destination: p.AddressWithPrefix.Subnet(), NIC: nic})
	}
	routes = append(routes, tcpip.Route{Destination: tcpip.AddressWithPrefix{Address: toAddress(netip.IPv4Unspecified())}.Subnet(), Gateway: toAddress(network4.Addr().Next()), NIC: nic},
		tcpip.Route{Destination: tcpip.AddressWithPrefix{Address: toAddress(netip.IPv6Unspecified())}.Subnet(), Gateway: toAddress(network6.Addr().Next()), NIC: nic})
	c.stack.SetRouteTable(routes)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{}, 2)
	go func() { // what the guest sends
		defer func() { done <- struct{}{} }()
		for pkt := c.card.ReadContext(ctx); pkt != nil; pkt = c.card.ReadContext(ctx) {
			f := new(vnet.Frame)
			f.Fill(pkt.ToView().AsSlice())
			c.port.Send(f)
			pkt.DecRef()
		}
	}()
	go func() { // what it gets
		defer func() { done <- struct{}{} }()
		for {
			select {
			case b := <-c.in:
				pkt := stack.NewPacketBuffer(stack.PacketBufferOptions{Payload: buffer.MakeWithData(b)})
				c.card.InjectInbound(0, pkt)
				pkt.DecRef()
			case <-ctx.Done():
				return
			}
		}
	}()
	if err := c.port.Start(c); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		c.port.Stop()
		cancel()
		<-done
		<-done
		c.stack.Destroy()
	})
	return c
}

func (c *client) dial(to string) (net.Conn, error) {
	a := netip.MustParseAddrPort(to)
	return gonet.DialContextTCP(c.t.Context(), c.stack, tcpip.FullAddress{NIC: nic, Addr: toAddress(a.Addr()), Port: a.Port()}, number(a.Addr()))
}

// ask asks the gateway for a name's addresses.
func (c *client) ask(name string, kind dnsmessage.Type) ([]string, dnsmessage.RCode) {
	c.t.Helper()
	m := dnsmessage.Message{Header: dnsmessage.Header{ID: 7, RecursionDesired: true}, Questions: []dnsmessage.Question{{Name: dnsmessage.MustNewName(name), Type: kind, Class: dnsmessage.ClassINET}}}
	question, err := m.Pack()
	if err != nil {
		c.t.Fatal(err)
	}
	at := network4.Addr().Next()
	conn, err := gonet.DialUDP(c.stack, nil, &tcpip.FullAddress{NIC: nic, Addr: toAddress(at), Port: 53}, number(at))
	if err != nil {
		c.t.Fatal(err)
	}
	defer conn.Close()
	b := make([]byte, 4096)
	n := exchange(c.t, conn, question, b)
	if err := m.Unpack(b[:n]); err != nil || m.ID != 7 {
		c.t.Fatalf("answer %x: %v", b[:n], err)
	}
	var got []string
	for _, r := range m.Answers {
		switch a := r.Body.(type) {
		case *dnsmessage.AResource:
			got = append(got, netip.AddrFrom4(a.A).String())
		case *dnsmessage.AAAAResource:
			got = append(got, netip.AddrFrom16(a.AAAA).String())
		}
	}
	return got, m.RCode
}

// exchange asks until it is answered, as who asks by UDP does.
func exchange(t *testing.T, conn *gonet.UDPConn, question, answer []byte) int {
	t.Helper()
	for t.Context().Err() == nil {
		if _, err := conn.Write(question); err != nil {
			t.Fatal(err)
		}
		if err := conn.SetReadDeadline(time.Now().Add(time.Second)); err != nil {
			t.Fatal(err)
		}
		n, err := conn.Read(answer)
		if err == nil {
			return n
		}
		if e, ok := errors.AsType[net.Error](err); !ok || !e.Timeout() {
			t.Fatal(err)
		}
	}
	return 0
}

// outside stands for the host's network: whatever is dialled is answered by an echo,
// but what has not been put there.
type outside struct {
	names  map[string][]netip.Addr
	dialed chan string
	echo   string
}

func (o *outside) dial(_ context.Context, network, address string) (net.Conn, error) {
	o.dialed <- network + " " + address
	if strings.HasSuffix(address, ":85") {
		return nil, errors.New("nobody is there")
	}
	if network == "udp" {
		here, there := net.Pipe()
		go func() { _, _ = io.Copy(there, there); there.Close() }()
		return here, nil
	}
	return net.Dial("tcp", o.echo)
}

func (o *outside) lookup(_ context.Context, host string) ([]netip.Addr, error) {
	if a := o.names[host]; a != nil {
		return a, nil
	}
	return nil, &net.DNSError{IsNotFound: true}
}

// echo is a server that says what it is told, at an address of this machine.
func echo(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go acceptAll(l, func(c net.Conn) { _, _ = io.Copy(c, c); c.Close() })
	return l.Addr().String()
}

// acceptAll has connections served, each by a goroutine of its own, until the listener is
// closed.
func acceptAll(l net.Listener, serve func(net.Conn)) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		go serve(c)
	}
}

func newGateway(t *testing.T, s *lan.Switch, change ...func(*Config)) (*Gateway, *outside) {
	t.Helper()
	o := &outside{echo: echo(t), dialed: make(chan string, 100), names: map[string][]netip.Addr{
		"deb.example.org": {netip.MustParseAddr("198.51.100.7"), netip.MustParseAddr("2001:db8::7"), netip.MustParseAddr("127.0.0.1"), netip.MustParseAddr("10.7.0.3")},
		"other.example":   {netip.MustParseAddr("203.0.113.1"), netip.MustParseAddr("198.51.100.9")},
	}}
	cfg := Config{Switch: s, VLAN: 7, Name: "gateway.front", Networks: []netip.Prefix{network4, network6}, Inside: []netip.Prefix{network4, network6, netip.MustParsePrefix("10.8.0.0/24")}, Dial: o.dial, Lookup: o.lookup}
	for _, f := range change {
		f(&cfg)
	}
	g, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := g.Close(); err != nil {
			t.Error(err)
		}
	})
	return g, o
}

func TestNamesOfServices(t *testing.T) {
	s := lan.New(lan.Config{})
	newGateway(t, s)
	web, db, other := plug(t, s, "web", 2), plug(t, s, "db", 3), plug(t, s, "other", 4)
	if err := s.SetRules([]lan.Rule{{From: "web", To: "db", Proto: packet.TCP, First: 5432, Last: 5432}}); err != nil {
		t.Fatal(err)
	}
	for _, q := range []struct {
		from *client
		name string
		kind dnsmessage.Type
		want string
		code dnsmessage.RCode
	}{
		{web, "db.", dnsmessage.TypeA, "10.7.0.3", 0},
		{web, "DB.lan.", dnsmessage.TypeAAAA, "fd07::3", 0},
		{web, "web.lan.", dnsmessage.TypeA, "10.7.0.2", 0},
		{web, "gateway.", dnsmessage.TypeA, "10.7.0.1", 0},
		{web, "db.", dnsmessage.TypeMX, "", 0},
		{db, "web.", dnsmessage.TypeA, "", dnsmessage.RCodeNameError},
		{other, "db.lan.", dnsmessage.TypeA, "", dnsmessage.RCodeNameError},
		{web, "nobody.", dnsmessage.TypeA, "", dnsmessage.RCodeNameError},
		{web, "deb.example.org.", dnsmessage.TypeA, "", dnsmessage.RCodeRefused},
	} {
		got, code := q.from.ask(q.name, q.kind)
		if strings.Join(got, " ") != q.want || code != q.code {
			t.Errorf("%s asks for %s: %v, %v; want %s, %v", q.from.port.Name(), q.name, got, code, q.want, q.code)
		}
	}
}

func TestDHCP(t *testing.T) {
	s := lan.New(lan.Config{})
	g, _ := newGateway(t, s)
	web := plug(t, s, "web", 2)
	mac := vnet.MAC{2, 0, 0, 0, 0, 2}
	ask := func(mods ...dhcpv4.Modifier) *dhcpv4.DHCPv4 {
		t.Helper()
		m, err := dhcpv4.New(append(mods, dhcpv4.WithHwAddr(mac[:]))...)
		if err != nil {
			t.Fatal(err)
		}
		answer, _ := g.lease(m, mac)
		return answer
	}
	offer := ask(dhcpv4.WithMessageType(dhcpv4.MessageTypeDiscover))
	if offer == nil || offer.MessageType() != dhcpv4.MessageTypeOffer || !offer.YourIPAddr.Equal(web.addrs[0].AsSlice()) || !offer.Router()[0].Equal(net.IP{10, 7, 0, 1}) || offer.IPAddressLeaseTime(0) != leaseTime {
		t.Fatalf("%v", offer)
	}
	server := dhcpv4.WithOption(dhcpv4.OptServerIdentifier(net.IP{10, 7, 0, 1}))
	request := dhcpv4.WithMessageType(dhcpv4.MessageTypeRequest)
	wants := func(n byte) dhcpv4.Modifier {
		return dhcpv4.WithOption(dhcpv4.OptRequestedIPAddress(net.IP{10, 7, 0, n}))
	}
	if a := ask(request, server, wants(2)); a == nil || a.MessageType() != dhcpv4.MessageTypeAck {
		t.Errorf("%v", a)
	}
	if a := ask(request, server, wants(3)); a == nil || a.MessageType() != dhcpv4.MessageTypeNak || !a.YourIPAddr.IsUnspecified() {
		t.Errorf("another's address: %v", a)
	}
	if a := ask(request, dhcpv4.WithOption(dhcpv4.OptServerIdentifier(net.IP{10, 7, 0, 9})), wants(2)); a != nil {
		t.Errorf("another server was chosen: %v", a)
	}
	if a := ask(dhcpv4.WithMessageType(dhcpv4.MessageTypeRelease)); a != nil {
		t.Errorf("a release is answered: %v", a)
	}
	mac[5] = 9
	if a := ask(dhcpv4.WithMessageType(dhcpv4.MessageTypeDiscover)); a != nil {
		t.Errorf("a stranger is answered: %v", a)
	}
}

// The gateway answers for nobody but itself.
func TestNotTheGateways(t *testing.T) {
	s := lan.New(lan.Config{})
	g, _ := newGateway(t, s)
	mac := vnet.MAC{2, 0, 0, 0, 0, 2}
	port, err := s.AddPort(lan.PortConfig{Name: "web", VLAN: 7, MAC: mac, Addresses: []netip.Addr{netip.MustParseAddr("10.7.0.2")}})
	if err != nil {
		t.Fatal(err)
	}
	question := func(target byte) []byte {
		b := append([]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, mac[:]...)
		b = append(append(b, 8, 6, 0, 1, 8, 0, 6, 4, 0, 1), mac[:]...)
		return append(b, 10, 7, 0, 2, 0, 0, 0, 0, 0, 0, 10, 7, 0, target)
	}
	echo := append(append(append(append([]byte{}, g.mac[:]...), mac[:]...), 8, 0, 0x45, 0, 0, 28, 0, 0, 0, 0, 64, packet.ICMP, 0, 0, 10, 7, 0, 2, 192, 0, 2, 1), 8, 0, 0, 0, 0, 1, 0, 1)
	binary.BigEndian.PutUint16(echo[etherHeader+10:], packet.Checksum(echo[etherHeader:etherHeader+ipHeader]))
	for _, c := range []struct {
		what    string
		b       []byte
		ignored uint64
	}{{"who is the gateway?", question(1), 0}, {"who is nobody?", question(99), 1}, {"an echo of the outside", echo, 1}} {
		before := g.Stats().Ignored
		f := new(vnet.Frame)
		f.Fill(c.b)
		port.Send(f)
		if n := g.Stats().Ignored - before; n != c.ignored {
			t.Errorf("%s: %d frames ignored", c.what, n)
		}
	}
}
