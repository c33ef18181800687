package gateway

import (
	"encoding/binary"
	"net"
	"net/netip"

	"github.com/insomniacslk/dhcp/dhcpv4"

	vnet "warder/devices/virtio/net"
	"warder/secmon/lan/packet"
)

// Ports of DHCP, and lengths of the headers before it.
const (
	dhcpServer = 67
	dhcpClient = 68
	ipHeader   = 20
	udpHeader  = 8
)

// answerDHCP answers a frame if it is a question of DHCP (RFC 2131), and reports
// whether it is one. Each port is given the address that it has; there is nothing to
// lend to others, and nothing to remember.
func (g *Gateway) answerDHCP(b []byte, h *packet.Headers) bool {
	if h.Type != packet.TypeIPv4 || h.Protocol != packet.UDP || h.DstPort != dhcpServer || h.Fragment {
		return false
	}
	m, err := dhcpv4.FromBytes(b[h.Payload : h.Payload+h.PayloadLen])
	if err != nil || m.OpCode != dhcpv4.OpcodeBootRequest {
		g.counts.ignored.Add(1)
		return true
	}
	client := vnet.MAC(b[6:])
	answer, to := g.lease(m, client)
	if answer == nil {
		return true
	}
	g.send(client, to, answer.ToBytes())
	return true
}

// lease is the answer to a client, nil for none, and the address that it goes to.
func (g *Gateway) lease(m *dhcpv4.DHCPv4, client vnet.MAC) (answer *dhcpv4.DHCPv4, to netip.Addr) {
	kind := dhcpv4.MessageTypeOffer
	switch m.MessageType() {
	case dhcpv4.MessageTypeDiscover:
	case dhcpv4.MessageTypeRequest:
		kind = dhcpv4.MessageTypeAck
	default: // a release and the like change nothing
		return nil, to
	}
	own := g.addrs[0]
	if server := m.ServerIdentifier(); server != nil && !server.Equal(own.AsSlice()) {
		return nil, to // it has chosen another
	}
	p := g.cfg.Switch.Station(g.cfg.VLAN, client)
	if p == nil {
		return nil, to
	}
	for _, a := range p.Config().Addresses {
		if a.Is4() && g.cfg.Networks[0].Contains(a) {
			to = a
		}
	}
	if !to.IsValid() {
		return nil, to
	}
	asked := m.RequestedIPAddress()
	if asked == nil && !m.ClientIPAddr.IsUnspecified() {
		asked = m.ClientIPAddr
	}
	router := net.IP(own.AsSlice())
	mods := []dhcpv4.Modifier{dhcpv4.WithOption(dhcpv4.OptServerIdentifier(router))}
	if kind == dhcpv4.MessageTypeAck && asked != nil && !asked.Equal(to.AsSlice()) {
		mods = append(mods, dhcpv4.WithMessageType(dhcpv4.MessageTypeNak))
	} else {
		mods = append(mods, dhcpv4.WithMessageType(kind), dhcpv4.WithYourIP(to.AsSlice()),
			dhcpv4.WithNetmask(net.CIDRMask(g.cfg.Networks[0].Bits(), 32)), dhcpv4.WithRouter(router), dhcpv4.WithDNS(router),
			dhcpv4.WithLeaseTime(uint32(leaseTime.Seconds())), dhcpv4.WithOption(dhcpv4.OptHostName(p.Name())),
			dhcpv4.WithOption(dhcpv4.OptDomainName(domain)))
	}
	answer, err := dhcpv4.NewReplyFromRequest(m, mods...)
	if err != nil {
		return nil, to
	}
	g.counts.leases.Add(1)
	return answer, to
}

// send sends a client that has no address yet a datagram.
func (g *Gateway) send(client vnet.MAC, to netip.Addr, payload []byte) {
	b := append(append([]byte{}, client[:]...), g.mac[:]...)
	b = append(b, 8, 0, 0x45, 0)
	b = binary.BigEndian.AppendUint16(b, uint16(ipHeader+udpHeader+len(payload)))
	b = append(b, 0, 0, 0, 0, 64, packet.UDP, 0, 0)
	b = append(append(b, g.addrs[0].AsSlice()...), to.AsSlice()...)
	ip := b[etherHeader:]
	binary.BigEndian.PutUint16(ip[10:], packet.Checksum(ip))
	b = binary.BigEndian.AppendUint16(b, dhcpServer)
	b = binary.BigEndian.AppendUint16(b, dhcpClient)
	b = binary.BigEndian.AppendUint16(b, uint16(udpHeader+len(payload)))
	b = append(b, 0, 0) // no checksum, which UDP over IPv4 may be without
	f := new(vnet.Frame)
	f.Fill(append(b, payload...))
	g.port.Send(f)
}
