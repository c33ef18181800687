package gateway

import (
	"encoding/binary"
	"net/netip"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv6"
	"github.com/insomniacslk/dhcp/iana"
	"gvisor.dev/gvisor/pkg/tcpip/header"

	vnet "warder/devices/virtio/net"
	"warder/secmon/lan"
	"warder/secmon/lan/packet"
)

// asks is a port whose frames the gateway answers on the spot.
func asks(t *testing.T, s *lan.Switch, cfg lan.PortConfig) (*lan.Port, *keeper) {
	t.Helper()
	p, err := s.AddPort(cfg)
	if err != nil {
		t.Fatal(err)
	}
	k := &keeper{}
	if err := p.Start(k); err != nil {
		t.Fatal(err)
	}
	return p, k
}

// TestRouter asks for routers from a port whose address is what it makes of the prefix, one
// whose is another, and one with a tag.
func TestRouter(t *testing.T) {
	s := lan.New(lan.Config{})
	g, _ := newGateway(t, s)
	for i, c := range []struct {
		trunk, auto bool
	}{{false, true}, {false, false}, {true, true}} {
		mac := vnet.MAC{2, 0, 0, 0, 1, byte(i)}
		cfg := lan.PortConfig{Name: string('a' + rune(i)), VLAN: 7, MAC: mac, Addresses: []netip.Addr{network6.Addr().Next().Next()}}
		if c.auto {
			cfg.Addresses[0] = lan.Autoconfigured(network6, mac)
		}
		if c.trunk {
			cfg.VLAN, cfg.Trunk = 0, []uint16{7}
		}
		p, k := asks(t, s, cfg)
		question := append(append([]byte{}, make([]byte, 12)...), 0x86, 0xdd)
		copy(question[6:], mac[:])
		var h packet.Headers
		h.Protocol, h.ICMPType, h.TTL = packet.ICMPv6, routerSolicit, 254
		if !g.answerRouter(question, &h) || len(k.got) != 0 {
			t.Error("what comes from another link is answered")
		}
		h.TTL = 255
		if !g.answerRouter(question, &h) || len(k.got) != 1 {
			t.Fatalf("%s: %d answers", p.Name(), len(k.got))
		}
		f := new(vnet.Frame)
		f.Fill(k.got[0])
		h.Decode(f.Head, f.Len, false)
		if c.trunk != (h.Tags == 1) || h.Fault != packet.Sound || h.TTL != 255 || h.Src.IP() != lan.LinkLocal(g.mac) || h.Dst.IP() != allNodes || vnet.MAC(h.Destination) != mac {
			t.Errorf("%s: %+v", p.Name(), h)
		}
		message := k.got[0][h.Payload-4:]
		pseudo := append(append(append([]byte{}, h.Src[:]...), h.Dst[:]...), 0, 0, 0, byte(len(message)), 0, 0, 0, packet.ICMPv6)
		if packet.Checksum(append(pseudo, message...)) != 0 {
			t.Errorf("%s: checksum of %x", p.Name(), message)
		}
		ra := header.NDPRouterAdvert(message[4:])
		if !ra.ManagedAddrConfFlag() || !ra.OtherConfFlag() || ra.RouterLifetime() != advertised {
			t.Errorf("%s: %x", p.Name(), message)
		}
		it, err := ra.Options().Iter(true)
		if err != nil {
			t.Fatal(err)
		}
		seen := 0
		for {
			option, done, err := it.Next()
			if err != nil {
				t.Fatal(err)
			}
			if done {
				break
			}
			seen++
			switch o := option.(type) {
			case header.NDPPrefixInformation:
				if n := o.Subnet(); o.AutonomousAddressConfigurationFlag() != c.auto || !o.OnLinkFlag() || n.Prefix() != 64 || fromAddress(n.ID()) != network6.Addr() || o.ValidLifetime() != 2*leaseTime {
					t.Errorf("%s: %v", p.Name(), o)
				}
			case header.NDPRecursiveDNSServer:
				if servers, err := o.Addresses(); err != nil || len(servers) != 1 || fromAddress(servers[0]) != g.addrs[1] {
					t.Errorf("%s: %v, %v", p.Name(), servers, err)
				}
			case header.NDPDNSSearchList:
				if names, err := o.DomainNames(); err != nil || len(names) != 1 || names[0] != domain {
					t.Errorf("%s: %v, %v", p.Name(), names, err)
				}
			}
		}
		if seen != 4 { // that of the MTU is passed over
			t.Errorf("%s: %d options", p.Name(), seen)
		}
	}
}

// TestDHCPv6 takes an address as a client does, and asks for others'.
func TestDHCPv6(t *testing.T) {
	s := lan.New(lan.Config{})
	g, _ := newGateway(t, s)
	mac := vnet.MAC{2, 0, 0, 0, 0, 9}
	own := netip.MustParseAddr("fd07::9")
	p, k := asks(t, s, lan.PortConfig{Name: "web", VLAN: 7, MAC: mac, Addresses: []netip.Addr{own}})
	solicit, err := dhcpv6.NewSolicit(mac[:])
	if err != nil {
		t.Fatal(err)
	}
	lent := func(m *dhcpv6.Message) netip.Addr {
		t.Helper()
		if m == nil || m.Options.OneIANA() == nil || m.Options.OneIANA().Options.OneAddress() == nil {
			t.Fatalf("%v", m)
		}
		a, _ := netip.AddrFromSlice(m.Options.OneIANA().Options.OneAddress().IPv6Addr)
		return a
	}
	asks := func(m *dhcpv6.Message) *dhcpv6.Message {
		t.Helper()
		b := g.lease6(m.ToBytes(), p)
		if b == nil {
			return nil
		}
		answer, err := dhcpv6.MessageFromBytes(b)
		if err != nil || answer.TransactionID != m.TransactionID {
			t.Fatalf("%x: %v", b, err)
		}
		return answer
	}
	advertise := asks(solicit)
	if lent(advertise) != own || advertise.MessageType != dhcpv6.MessageTypeAdvertise || len(advertise.Options.DNS()) != 1 || !advertise.Options.DNS()[0].Equal(g.addrs[1].AsSlice()) {
		t.Errorf("%v", advertise)
	}
	request, err := dhcpv6.NewRequestFromAdvertise(advertise)
	if err != nil {
		t.Fatal(err)
	}
	if reply := asks(request); lent(reply) != own || reply.MessageType != dhcpv6.MessageTypeReply {
		t.Errorf("%v", reply)
	}
	request.UpdateOption(dhcpv6.OptServerID(&dhcpv6.DUIDLL{HWType: iana.HWTypeEthernet, LinkLayerAddr: mac[:]}))
	if reply := asks(request); reply != nil {
		t.Errorf("another server was chosen: %v", reply)
	}
	confirm := &dhcpv6.Message{MessageType: dhcpv6.MessageTypeConfirm, TransactionID: solicit.TransactionID}
	confirm.AddOption(solicit.GetOneOption(dhcpv6.OptionClientID))
	for a, want := range map[string]iana.StatusCode{"fd07::9": iana.StatusSuccess, "fd07::a": iana.StatusNotOnLink} {
		confirm.UpdateOption(&dhcpv6.OptIANA{Options: dhcpv6.IdentityOptions{Options: dhcpv6.Options{&dhcpv6.OptIAAddress{IPv6Addr: netip.MustParseAddr(a).AsSlice(), ValidLifetime: time.Hour}}}})
		if reply := asks(confirm); reply == nil || reply.Options.Status().StatusCode != want {
			t.Errorf("%s: %v", a, reply)
		}
	}

	// As frames.
	datagram := append([]byte{2, 34, 2, 35, 0, 0, 0, 0}, solicit.ToBytes()...)
	binary.BigEndian.PutUint16(datagram[4:], uint16(len(datagram)))
	b := append(append([]byte{}, 0x33, 0x33, 0, 1, 0, 2), mac[:]...)
	b = append(b, 0x86, 0xdd, 0x60, 0, 0, 0, 0, byte(len(datagram)), packet.UDP, 1)
	b = append(append(b, lan.LinkLocal(mac).AsSlice()...), netip.MustParseAddr("ff02::1:2").AsSlice()...)
	b = append(b, datagram...)
	var h packet.Headers
	if h.Decode(b, len(b), false); !g.answerDHCPv6(b, &h) || len(k.got) != 1 {
		t.Fatalf("%+v: %d answers", h, len(k.got))
	}
	got := k.got[0]
	if h.Decode(got, len(got), false); h.Fault != packet.Sound || h.SrcPort != dhcpv6Server || h.DstPort != dhcpv6Client || h.Dst.IP() != lan.LinkLocal(mac) {
		t.Fatalf("%+v", h)
	}
	pseudo := append(append(append([]byte{}, h.Src[:]...), h.Dst[:]...), 0, 0, 0, byte(h.PayloadLen+udpHeader), 0, 0, 0, packet.UDP)
	if packet.Checksum(append(pseudo, got[h.Payload-udpHeader:]...)) != 0 {
		t.Errorf("checksum of %x", got)
	}
	m, err := dhcpv6.MessageFromBytes(got[h.Payload:])
	if err != nil || lent(m) != own {
		t.Errorf("%v, %v", m, err)
	}
}
