package dhcp

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/insomniacslk/dhcp/dhcpv4/nclient4"
)

var (
	mac      = net.HardwareAddr{2, 0, 0, 0, 0, 7}
	serverIP = net.IPv4(10, 0, 0, 1)
)

// wire is a client's socket, at whose other end is a server.
type wire struct {
	server func(*dhcpv4.DHCPv4) *dhcpv4.DHCPv4
	frames chan []byte
	closed chan struct{}
}

func (w *wire) WriteTo(p []byte, _ net.Addr) (int, error) {
	m, err := dhcpv4.FromBytes(p)
	if err != nil {
		return 0, err
	}
	if answer := w.server(m); answer != nil {
		w.frames <- answer.ToBytes()
	}
	return len(p), nil
}

func (w *wire) ReadFrom(p []byte) (int, net.Addr, error) {
	select {
	case b := <-w.frames:
		return copy(p, b), &net.UDPAddr{}, nil
	case <-w.closed:
		return 0, nil, net.ErrClosed
	}
}

func (w *wire) Close() error                     { close(w.closed); return nil }
func (w *wire) LocalAddr() net.Addr              { return &net.UDPAddr{} }
func (w *wire) SetDeadline(time.Time) error      { return nil }
func (w *wire) SetReadDeadline(time.Time) error  { return nil }
func (w *wire) SetWriteDeadline(time.Time) error { return nil }

// server lends addresses, one after the other, for ten minutes.
type server struct {
	asked   []string
	lent    byte
	silent  atomic.Bool
	refuses bool
	with    []dhcpv4.Modifier
}

func (s *server) answer(m *dhcpv4.DHCPv4) *dhcpv4.DHCPv4 {
	what := m.MessageType().String()
	if m.ClientIPAddr.IsUnspecified() && m.MessageType() == dhcpv4.MessageTypeDiscover {
		s.lent++
	} else if !m.ClientIPAddr.IsUnspecified() {
		what = "RENEW"
	}
	s.asked = append(s.asked, what)
	kind := map[dhcpv4.MessageType]dhcpv4.MessageType{
		dhcpv4.MessageTypeDiscover: dhcpv4.MessageTypeOffer, dhcpv4.MessageTypeRequest: dhcpv4.MessageTypeAck,
	}[m.MessageType()]
	if s.refuses && what == "RENEW" {
		kind = dhcpv4.MessageTypeNak
	}
	if s.silent.Load() {
		return nil
	}
	r, err := dhcpv4.NewReplyFromRequest(m, append([]dhcpv4.Modifier{
		dhcpv4.WithMessageType(kind), dhcpv4.WithServerIP(serverIP), dhcpv4.WithYourIP(net.IPv4(10, 0, 0, 1+s.lent)),
		dhcpv4.WithOption(dhcpv4.OptServerIdentifier(serverIP)), dhcpv4.WithNetmask(net.CIDRMask(24, 32)), dhcpv4.WithLeaseTime(600),
	}, s.with...)...)
	if err != nil {
		panic(err)
	}
	return r
}

// client is one at a wire with s, and what it applied, address by address.
func (s *server) client(t *testing.T) (c *Client, applied *[]string) {
	applied = new([]string)
	return &Client{
		Interface: "eth0", Hostname: "guest",
		Apply: func(l Lease) error { *applied = append(*applied, l.Address.String()); return nil },
		Log:   func(err error) { t.Log(err) },
		open: func() (exchange, error) {
			w := &wire{server: s.answer, frames: make(chan []byte, 1), closed: make(chan struct{})}
			return nclient4.NewWithConn(w, mac, nclient4.WithTimeout(answerTime), nclient4.WithRetry(tries))
		},
	}, applied
}

func TestLeaseIsRenewed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &server{}
		c, applied := s.client(t)
		if err := c.Acquire(t.Context()); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 16*time.Minute)
		defer cancel()
		c.Keep(ctx)
		if want := []string{"10.0.0.2/24", "10.0.0.2/24", "10.0.0.2/24", "10.0.0.2/24"}; !slices.Equal(*applied, want) {
			t.Errorf("applied %q, want %q: once, and every five minutes", *applied, want)
		}
		if want := []string{"DISCOVER", "REQUEST", "RENEW", "RENEW", "RENEW"}; !slices.Equal(s.asked, want) {
			t.Errorf("asked %q, want %q", s.asked, want)
		}
	})
}

// A server that goes away is asked until the lease ends; then any server is.
func TestLeaseIsLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &server{}
		c, applied := s.client(t)
		if err := c.Acquire(t.Context()); err != nil {
			t.Fatal(err)
		}
		s.silent.Store(true)
		start := time.Now()
		c.Apply = func(l Lease) error {
			*applied = append(*applied, l.Address.String())
			if l.Address.IsValid() {
				return nil
			}
			if d := time.Since(start); d != 10*time.Minute {
				t.Errorf("the lease was given up after %v", d)
			}
			return nil
		}
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		go func() {
			time.Sleep(20 * time.Minute)
			s.silent.Store(false)
			time.Sleep(2 * time.Minute)
			cancel()
		}()
		c.Keep(ctx)
		if n := len(*applied); n != 3 || (*applied)[1] != (netip.Prefix{}).String() || !strings.HasPrefix((*applied)[2], "10.0.0.") {
			t.Errorf("applied %q", *applied)
		}
		if len(s.asked) > 100 {
			t.Errorf("asked %d times in 22 minutes", len(s.asked))
		}
	})
}

// A server that takes back an address is obeyed at once.
func TestLeaseIsRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &server{refuses: true}
		c, applied := s.client(t)
		if err := c.Acquire(t.Context()); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 6*time.Minute)
		defer cancel()
		c.Keep(ctx)
		if want := []string{"10.0.0.2/24", (netip.Prefix{}).String(), "10.0.0.3/24"}; !slices.Equal(*applied, want) {
			t.Errorf("applied %q, want %q", *applied, want)
		}
	})
}

func TestNoServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &server{}
		s.silent.Store(true)
		c, applied := s.client(t)
		start := time.Now()
		err := c.Acquire(t.Context())
		if err == nil || err.Error() != "DHCP on eth0: no server answers" {
			t.Errorf("error %v", err)
		}
		if d := time.Since(start); d > 20*time.Second || len(*applied) > 0 {
			t.Errorf("after %v, applied %q", d, *applied)
		}
	})
}

// TestForever ends by itself: there is nothing to renew.
func TestForever(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &server{with: []dhcpv4.Modifier{dhcpv4.WithLeaseTime(0xffffffff)}}
		c, _ := s.client(t)
		if err := c.Acquire(t.Context()); err != nil {
			t.Fatal(err)
		}
		c.Keep(context.Background())
	})
}

func TestApplyFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, _ := new(server).client(t)
		c.Apply = func(Lease) error { return errors.New("no such interface") }
		if err := c.Acquire(t.Context()); err == nil || !strings.Contains(err.Error(), "no such interface") {
			t.Errorf("error %v", err)
		}
	})
}

func TestParse(t *testing.T) {
	addr, prefix := netip.MustParseAddr, netip.MustParsePrefix
	everywhere := prefix("0.0.0.0/0")
	router := dhcpv4.WithRouter(net.IPv4(10, 0, 0, 1), net.IPv4(10, 0, 0, 2))
	_, special, _ := net.ParseCIDR("192.0.2.0/24")
	classless := dhcpv4.WithOption(dhcpv4.OptClasslessStaticRoute(
		&dhcpv4.Route{Dest: special, Router: net.IPv4zero}, &dhcpv4.Route{Dest: &net.IPNet{IP: net.IPv4zero, Mask: net.CIDRMask(0, 32)}, Router: net.IPv4(10, 0, 0, 9)}))
	for name, c := range map[string]struct {
		with    []dhcpv4.Modifier
		want    Lease
		renewal time.Duration
	}{
		"plain": {nil, Lease{Address: prefix("10.0.0.2/24"), Duration: 10 * time.Minute}, 5 * time.Minute},
		"router and names": {
			[]dhcpv4.Modifier{router, dhcpv4.WithDNS(net.IPv4(9, 9, 9, 9))},
			Lease{Address: prefix("10.0.0.2/24"), Routes: []Route{{everywhere, addr("10.0.0.1")}}, Resolvers: []netip.Addr{addr("9.9.9.9")}, Duration: 10 * time.Minute},
			5 * time.Minute,
		},
		"classless routes are in place of the router": {
			[]dhcpv4.Modifier{router, classless},
			Lease{Address: prefix("10.0.0.2/24"), Routes: []Route{{prefix("192.0.2.0/24"), addr("0.0.0.0")}, {everywhere, addr("10.0.0.9")}}, Duration: 10 * time.Minute},
			5 * time.Minute,
		},
		"no mask":           {[]dhcpv4.Modifier{dhcpv4.WithoutOption(dhcpv4.OptionSubnetMask)}, Lease{Address: prefix("10.0.0.2/8"), Duration: 10 * time.Minute}, 5 * time.Minute},
		"no time at all":    {[]dhcpv4.Modifier{dhcpv4.WithLeaseTime(0)}, Lease{Address: prefix("10.0.0.2/24"), Duration: 2 * time.Second}, time.Second},
		"for ever":          {[]dhcpv4.Modifier{dhcpv4.WithLeaseTime(0xffffffff)}, Lease{Address: prefix("10.0.0.2/24"), Duration: Forever}, Forever},
		"says when":         {[]dhcpv4.Modifier{dhcpv4.WithGeneric(dhcpv4.OptionRenewTimeValue, []byte{0, 0, 0, 60})}, Lease{Address: prefix("10.0.0.2/24"), Duration: 10 * time.Minute}, time.Minute},
		"renewal after end": {[]dhcpv4.Modifier{dhcpv4.WithGeneric(dhcpv4.OptionRenewTimeValue, []byte{1, 0, 0, 0})}, Lease{Address: prefix("10.0.0.2/24"), Duration: 10 * time.Minute}, 10 * time.Minute},
	} {
		got, renewal, err := parse(ack(t, c.with...))
		same := cmp.Options{cmp.Comparer(func(a, b netip.Addr) bool { return a == b }), cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })}
		if diff := cmp.Diff(c.want, got, same); diff != "" || renewal != c.renewal || err != nil {
			t.Errorf("%s: renewal after %v, error %v, lease (-want +got):\n%s", name, renewal, err, diff)
		}
	}
	for name, with := range map[string]dhcpv4.Modifier{
		"no address":        dhcpv4.WithYourIP(net.IPv4zero),
		"a group's address": dhcpv4.WithYourIP(net.IPv4(224, 0, 0, 1)),
		"everybody's":       dhcpv4.WithYourIP(net.IPv4bcast),
		"a mask with holes": dhcpv4.WithNetmask(net.IPMask{255, 0, 255, 0}),
	} {
		if l, _, err := parse(ack(t, with)); err == nil {
			t.Errorf("%s: %+v", name, l)
		}
	}
}

// ack is what the server acknowledges with.
func ack(t *testing.T, with ...dhcpv4.Modifier) *dhcpv4.DHCPv4 {
	t.Helper()
	m, err := dhcpv4.New(dhcpv4.WithHwAddr(mac), dhcpv4.WithMessageType(dhcpv4.MessageTypeRequest))
	if err != nil {
		t.Fatal(err)
	}
	return (&server{lent: 1, with: with}).answer(m)
}
