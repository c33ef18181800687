package gateway

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"testing"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/insomniacslk/dhcp/dhcpv6"
	"golang.org/x/net/dns/dnsmessage"

	vnet "warder/devices/virtio/net"
	"warder/secmon/lan"
	"warder/secmon/lan/packet"
)

// keeper is a guest that keeps what it gets.
type keeper struct{ got [][]byte }

func (*keeper) Queue(*vnet.Frame) int { return 0 }

func (k *keeper) Deliver(_ int, f *vnet.Frame, _ int) (int, error) {
	b := append([]byte{}, f.Head...)
	for _, p := range f.Body {
		b = append(b, p...)
	}
	k.got = append(k.got, b)
	return 0, nil
}

// fuzzed is a gateway with a guest at each of two ports, whose own stack is not run.
func fuzzed(f *testing.F) (g *Gateway, guests [2]*keeper) {
	s := lan.New(lan.Config{})
	g, err := New(Config{Switch: s, VLAN: 7, Name: "gateway", Networks: []netip.Prefix{network4, network6}, Inside: []netip.Prefix{network4, network6}})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { g.Close() })
	for i := range guests {
		n := byte(i + 2)
		p, err := s.AddPort(lan.PortConfig{Name: string('a' + rune(i)), VLAN: 7, MAC: vnet.MAC{2, 0, 0, 0, 0, n}, Addresses: []netip.Addr{netip.AddrFrom4([4]byte{10, 7, 0, n})}})
		if err != nil {
			f.Fatal(err)
		}
		guests[i] = &keeper{}
		if err := p.Start(guests[i]); err != nil {
			f.Fatal(err)
		}
	}
	return g, guests
}

// FuzzDHCP asks for an address in whatever words. Whatever comes back goes to who
// asked, and lends nothing but its own address.
func FuzzDHCP(f *testing.F) {
	g, guests := fuzzed(f)
	mac := vnet.MAC{2, 0, 0, 0, 0, 2}
	for _, kind := range []dhcpv4.MessageType{dhcpv4.MessageTypeDiscover, dhcpv4.MessageTypeRequest, dhcpv4.MessageTypeInform} {
		m, err := dhcpv4.New(dhcpv4.WithMessageType(kind), dhcpv4.WithHwAddr(mac[:]))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(m.ToBytes())
	}
	f.Fuzz(func(t *testing.T, message []byte) {
		message = message[:min(len(message), 1472)]
		n := len(message) + ipHeader + udpHeader
		b := append([]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, mac[:]...)
		b = append(b, 8, 0, 0x45, 0, byte(n>>8), byte(n), 0, 0, 0, 0, 64, packet.UDP, 0, 0, 0, 0, 0, 0, 255, 255, 255, 255)
		binary.BigEndian.PutUint16(b[etherHeader+10:], packet.Checksum(b[etherHeader:]))
		b = append(b, 0, dhcpClient, 0, dhcpServer, byte((n-ipHeader)>>8), byte(n-ipHeader), 0, 0)
		b = append(b, message...)
		var h packet.Headers
		if h.Decode(b, len(b), false); !g.answerDHCP(b, &h) {
			t.Fatal("a datagram to the port of DHCP servers is none")
		}
		for i, k := range guests {
			for _, got := range k.got {
				frame := new(vnet.Frame)
				frame.Fill(got)
				var h packet.Headers
				if h.Decode(frame.Head, frame.Len, false); h.Fault != packet.Sound || i != 0 {
					t.Fatalf("guest %d got %x", i, got)
				}
				m, err := dhcpv4.FromBytes(got[h.Payload:])
				if err != nil || m.OpCode != dhcpv4.OpcodeBootReply || !m.YourIPAddr.IsUnspecified() && !m.YourIPAddr.Equal(h.Dst.IP().AsSlice()) || h.Dst.IP() != netip.MustParseAddr("10.7.0.2") {
					t.Fatalf("answer %v, %v", m, err)
				}
			}
			k.got = nil
		}
	})
}

// FuzzQuestion asks for names in whatever words. What comes back is an answer to that
// question; nothing is asked outside by one who may not.
func FuzzQuestion(f *testing.F) {
	g, _ := fuzzed(f)
	for _, name := range []string{"a.", "b.lan.", "gateway.", "example.org."} {
		m := dnsmessage.Message{Header: dnsmessage.Header{ID: 7, RecursionDesired: true}, Questions: []dnsmessage.Question{{Name: dnsmessage.MustNewName(name), Type: dnsmessage.TypeA, Class: dnsmessage.ClassINET}}}
		b, err := m.Pack()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, question []byte) {
		b := g.answerName(netip.MustParseAddr("10.7.0.2"), question)
		if b == nil {
			return
		}
		var q, a dnsmessage.Message
		if err := a.Unpack(b); err != nil || !a.Response || len(a.Questions) != 1 {
			t.Fatalf("answer %x: %v", b, err)
		}
		if q.Unpack(question) == nil && (a.ID != q.ID || a.Questions[0] != q.Questions[0]) {
			t.Fatalf("%v answers %v", a, q)
		}
		for _, r := range a.Answers {
			if v4, ok := r.Body.(*dnsmessage.AResource); !ok || v4.A != [4]byte{10, 7, 0, 1} && v4.A != [4]byte{10, 7, 0, 2} {
				t.Fatalf("%v", r)
			}
		}
	})
}

// FuzzDHCPv6 asks for an address in whatever words. Whatever comes back lends nothing but
// the port's own.
func FuzzDHCPv6(f *testing.F) {
	g, _ := fuzzed(f)
	mac := vnet.MAC{2, 0, 0, 0, 0, 7}
	own := lan.Autoconfigured(network6, mac)
	p, err := g.cfg.Switch.AddPort(lan.PortConfig{Name: "c", VLAN: 7, MAC: mac, Addresses: []netip.Addr{own}})
	if err != nil {
		f.Fatal(err)
	}
	solicit, err := dhcpv6.NewSolicit(mac[:])
	if err != nil {
		f.Fatal(err)
	}
	f.Add(solicit.ToBytes())
	advertise, err := dhcpv6.MessageFromBytes(g.lease6(solicit.ToBytes(), p))
	if err != nil {
		f.Fatal(err)
	}
	request, err := dhcpv6.NewRequestFromAdvertise(advertise)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(request.ToBytes())
	f.Fuzz(func(t *testing.T, message []byte) {
		b := g.lease6(message, p)
		if b == nil {
			return
		}
		answer, err := dhcpv6.MessageFromBytes(b)
		if err != nil || !bytes.Equal(answer.TransactionID[:], message[1:4]) {
			// What a client calls itself is the library's to refuse, and ours to say again.
			if m, bad := dhcpv6.MessageFromBytes(message); bad == nil {
				t.Fatalf("%x answers %v: %v", b, m, err)
			}
			return
		}
		for _, ia := range answer.Options.IANA() {
			for _, a := range ia.Options.Addresses() {
				if !a.IPv6Addr.Equal(own.AsSlice()) {
					t.Fatalf("%v lends %v", answer, a)
				}
			}
		}
	})
}
