// Package gateway is what a VLAN gets from warder: addresses by DHCP, names by DNS,
// ways out to the host's network and in from it, and between services the requests of
// HTTP and DNS that are allowed one by one.
//
// It is a port of the switch with a TCP/IP stack of gVisor's behind it. A connection
// to the outside ends there and is made anew by the host, as an ordinary user's program
// makes one: no privilege, no interface and no route of the host's is needed, and the
// host's kernel never sees a packet that a guest has written.
package gateway

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/network/arp"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv6"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/icmp"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/tcpip/transport/udp"

	vnet "warder/devices/virtio/net"
	"warder/secmon/lan"
)

// Config is the gateway of one VLAN.
type Config struct {
	Switch *lan.Switch
	VLAN   uint16
	Name   string // of its port
	// Networks are those of the VLAN, one of IPv4 and at most one of IPv6. The first
	// address of each is the gateway's.
	Networks []netip.Prefix
	// Inside are the networks of all VLANs: none of them is outside.
	Inside []netip.Prefix
	// MTU is the longest IP packet of the VLAN in bytes. Default: 1500.
	MTU int
	// Dial makes connections of the host's, Lookup asks the host for addresses of a
	// name. Default: as any program does.
	Dial   func(ctx context.Context, network, address string) (net.Conn, error)
	Lookup func(ctx context.Context, host string) ([]netip.Addr, error)
	// Hold brings up one service for a conversation that another begins with it and the
	// gateway reads. Default: none is brought up.
	Hold func(ctx context.Context, service, by string) (alive context.Context, release func(), err error)
	// Log is told what goes wrong.
	Log *slog.Logger
}

// A Gateway serves one VLAN. It is safe for concurrent use.
type Gateway struct {
	cfg   Config
	port  *lan.Port
	mac   vnet.MAC
	addrs []netip.Addr // its own
	link  *link
	stack *stack.Stack
	// reader answers in the name of services what others say to them by way of the
	// gateway; to them it is said by stack. In one stack the addresses of services
	// would be its own, and lead nowhere.
	reader  *stack.Stack
	reading *link

	ctx     context.Context
	cancel  context.CancelFunc
	workers sync.WaitGroup

	egress atomic.Pointer[map[string][]Egress] // by the port's name
	pins   pins
	counts counts
	open   openConns

	mu      sync.Mutex
	closers []func() error
}

const (
	nic        = 1
	defaultMTU = 1500
	// leaseTime is for how long an address is lent. It is always the same one, so
	// nothing has to be kept.
	leaseTime = time.Hour
)

// New plugs a gateway into the switch.
func New(cfg Config) (*Gateway, error) {
	if cfg.MTU == 0 {
		cfg.MTU = defaultMTU
	}
	if cfg.Log == nil {
		cfg.Log = slog.Default()
	}
	if cfg.Dial == nil {
		cfg.Dial = (&net.Dialer{}).DialContext
	}
	if cfg.Lookup == nil {
		cfg.Lookup = func(ctx context.Context, host string) ([]netip.Addr, error) {
			return net.DefaultResolver.LookupNetIP(ctx, "ip", host)
		}
	}
	g := &Gateway{cfg: cfg, mac: vnet.MAC{2, 'w', 'g', 'w', byte(cfg.VLAN >> 8), byte(cfg.VLAN)}}
	g.pins.by = make(map[pinned]pin)
	g.open.of, g.open.out = make(map[string]int), make(map[*outgoing]struct{})
	for _, n := range cfg.Networks {
		g.addrs = append(g.addrs, n.Masked().Addr().Next())
	}
	g.SetEgress(nil)
	g.ctx, g.cancel = context.WithCancel(context.Background())
	var err error
	if g.port, err = cfg.Switch.AddPort(lan.PortConfig{Name: cfg.Name, VLAN: cfg.VLAN, MAC: g.mac, Addresses: g.addrs, Trusted: true}); err != nil {
		return nil, err
	}
	if err := g.start(); err != nil {
		return nil, errors.Join(err, g.Close())
	}
	return g, nil
}

func (g *Gateway) start() (err error) {
	g.link, g.reading = newLink(g), newLink(g)
	if g.stack, err = g.newStack(g.link, g.addrs); err != nil {
		return err
	}
	if _, has := g.network6(); has { // routers are known by it
		own := tcpip.ProtocolAddress{Protocol: ipv6.ProtocolNumber, AddressWithPrefix: toAddress(lan.LinkLocal(g.mac)).WithPrefix()}
		if err := g.stack.AddProtocolAddress(nic, own, stack.AddressProperties{}); err != nil {
			return fmt.Errorf("gateway %s: %v", g.cfg.Name, err)
		}
	}
	if g.reader, err = g.newStack(g.reading, nil); err != nil {
		return err
	}
	forward(g.stack, g.acceptTCP, g.acceptUDP)
	forward(g.reader, g.readTCP, g.readUDP)
	if err := g.serveNames(); err != nil {
		return fmt.Errorf("gateway %s: names: %w", g.cfg.Name, err)
	}
	g.workers.Go(g.link.run)
	g.workers.Go(g.advertiseAll)
	return g.port.Start(g.link)
}

// newStack makes a stack with addresses, that answers in the name of others too.
func (g *Gateway) newStack(l *link, addrs []netip.Addr) (*stack.Stack, error) {
	st := stack.New(stack.Options{
		NetworkProtocols:   []stack.NetworkProtocolFactory{ipv4.NewProtocol, ipv6.NewProtocol, arp.NewProtocol},
		TransportProtocols: []stack.TransportProtocolFactory{tcp.NewProtocol, udp.NewProtocol, icmp.NewProtocol4, icmp.NewProtocol6},
	})
	sack := tcpip.TCPSACKEnabled(true)
	st.SetTransportProtocolOption(tcp.ProtocolNumber, &sack) // it has that option
	if err := st.CreateNIC(nic, l); err != nil {
		return nil, fmt.Errorf("gateway %s: %v", g.cfg.Name, err)
	}
	// What is for others is the gateway's to take, and to answer in their name. The
	// link lets nothing else in.
	if err := st.SetPromiscuousMode(nic, true); err != nil {
		return nil, fmt.Errorf("gateway %s: %v", g.cfg.Name, err)
	}
	if err := st.SetSpoofing(nic, true); err != nil {
		return nil, fmt.Errorf("gateway %s: %v", g.cfg.Name, err)
	}
	for i, a := range addrs {
		protocol := tcpip.ProtocolAddress{Protocol: number(a), AddressWithPrefix: tcpip.AddressWithPrefix{Address: toAddress(a), PrefixLen: g.cfg.Networks[i].Bits()}}
		if err := st.AddProtocolAddress(nic, protocol, stack.AddressProperties{}); err != nil {
			return nil, fmt.Errorf("gateway %s: address %v: %v", g.cfg.Name, a, err)
		}
	}
	var routes []tcpip.Route
	for _, n := range g.cfg.Networks {
		routes = append(routes, tcpip.Route{Destination: tcpip.AddressWithPrefix{Address: toAddress(n.Masked().Addr()), PrefixLen: n.Bits()}.Subnet(), NIC: nic})
	}
	st.SetRouteTable(routes)
	return st, nil
}

// onClose has something closed with the gateway.
func (g *Gateway) onClose(f func() error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.closers = append(g.closers, f)
}

// Port is the gateway's port of the switch.
func (g *Gateway) Port() *lan.Port { return g.port }

// Addresses are the gateway's own: those of its VLAN's router and name server.
func (g *Gateway) Addresses() []netip.Addr { return g.addrs }

// Forget forgets what is known of a port that is on the switch no more: what it was told, and
// that its addresses are at its MAC address, for they can be another's from now on.
func (g *Gateway) Forget(p *lan.Port) {
	g.pins.forget(p.ID())
	for _, a := range p.Config().Addresses {
		for _, st := range []*stack.Stack{g.stack, g.reader} {
			_ = st.RemoveNeighbor(nic, number(a), toAddress(a)) // it knows it or not
		}
	}
}

// Close ends all connections and takes the gateway off the switch.
func (g *Gateway) Close() error {
	g.cancel()
	g.mu.Lock()
	closers := g.closers
	g.mu.Unlock()
	var errs []error
	for _, c := range closers {
		errs = append(errs, c())
	}
	g.cfg.Switch.Remove(g.port)
	g.port.Stop()
	for _, st := range []*stack.Stack{g.stack, g.reader} {
		if st != nil {
			st.Destroy()
		}
	}
	g.workers.Wait()
	return errors.Join(errs...)
}

// asker is the port that an address inside is of.
func (g *Gateway) asker(a netip.Addr) *lan.Port { return g.cfg.Switch.Owner(g.cfg.VLAN, a) }

func number(a netip.Addr) tcpip.NetworkProtocolNumber {
	if a.Is4() {
		return ipv4.ProtocolNumber
	}
	return ipv6.ProtocolNumber
}

func toAddress(a netip.Addr) tcpip.Address { return tcpip.AddrFromSlice(a.AsSlice()) }

func fromAddress(a tcpip.Address) netip.Addr {
	addr, _ := netip.AddrFromSlice(a.AsSlice())
	return addr
}
