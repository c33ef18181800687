package gateway

import (
	"encoding/binary"
	"net/netip"
	"time"

	vnet "warder/devices/virtio/net"
	"warder/secmon/lan"
	"warder/secmon/lan/packet"
)

// Router advertisements (RFC 4861, 4.2) and what they have in them: prefixes (4.6.2),
// the MTU (4.6.4), name servers and the domain (RFC 8106).
const (
	routerSolicit = 133
	routerAdvert  = 134
	hopLimit      = 255 // or it is of another link
	managed       = 0xc0

	optionSource = 1
	optionPrefix = 3
	optionMTU    = 5
	optionDNS    = 25
	optionDomain = 31
	onLink       = 0x80
	autonomous   = 0x40

	// advertised is for how long a router is known that is not heard of any more, and
	// advertises how often it is heard of. The most is 9000 s, and the least of all 3 s.
	advertised = 30 * time.Minute
	advertises = 5 * time.Minute
)

var allNodes = netip.AddrFrom16([16]byte{0: 0xff, 1: 2, 15: 1})

// answerRouter answers a frame if it is a question for routers, and reports whether it
// is one.
func (g *Gateway) answerRouter(b []byte, h *packet.Headers) bool {
	if h.Protocol != packet.ICMPv6 || h.ICMPType != routerSolicit {
		return false
	}
	if p := g.cfg.Switch.Station(g.cfg.VLAN, vnet.MAC(b[6:])); p != nil && h.TTL == hopLimit {
		g.advertise(p)
	}
	return true
}

// advertiseAll tells all ports of the VLAN of the router from time to time, until the
// gateway closes.
func (g *Gateway) advertiseAll() {
	every := time.NewTicker(advertises)
	defer every.Stop()
	for {
		select {
		case <-g.ctx.Done():
			return
		case <-every.C:
		}
		for _, p := range g.cfg.Switch.Members(g.cfg.VLAN) {
			if c := p.Config(); !c.Uplink && !c.Trusted {
				g.advertise(p)
			}
		}
	}
}

// advertise tells one port of the router: each has a prefix of its own kind. One whose
// address is what it makes of the prefix itself may do so, others ask by DHCPv6.
func (g *Gateway) advertise(p *lan.Port) {
	own, ok := g.network6()
	if !ok {
		return
	}
	mac := p.Config().MAC
	message := []byte{routerAdvert, 0, 0, 0, 64, managed}
	message = binary.BigEndian.AppendUint16(message, uint16(advertised.Seconds()))
	message = append(message, 0, 0, 0, 0, 0, 0, 0, 0) // how long neighbours are reachable is theirs to say
	message = append(append(message, optionSource, 1), g.mac[:]...)
	message = append(message, optionMTU, 1, 0, 0)
	message = binary.BigEndian.AppendUint32(message, uint32(g.cfg.MTU))
	flags := byte(onLink)
	if own.Bits() == 64 && g.asker(lan.Autoconfigured(own, mac)) == p {
		flags |= autonomous
	}
	message = append(message, optionPrefix, 4, byte(own.Bits()), flags)
	message = binary.BigEndian.AppendUint32(message, uint32(2*leaseTime.Seconds()))
	message = binary.BigEndian.AppendUint32(message, uint32(leaseTime.Seconds()))
	message = append(append(message, 0, 0, 0, 0), own.Masked().Addr().AsSlice()...)
	message = append(message, optionDNS, 3, 0, 0)
	message = binary.BigEndian.AppendUint32(message, uint32(advertised.Seconds()))
	message = append(message, own.Masked().Addr().Next().AsSlice()...)
	message = append(message, optionDomain, 2, 0, 0)
	message = binary.BigEndian.AppendUint32(message, uint32(advertised.Seconds()))
	message = append(append(message, byte(len(domain))), domain...)
	message = append(message, make([]byte, 16-8-1-len(domain))...)
	g.counts.adverts.Add(1)
	g.send6(mac, allNodes, packet.ICMPv6, hopLimit, message, 2)
}

// network6 is the VLAN's network of IPv6, if it has one.
func (g *Gateway) network6() (n netip.Prefix, ok bool) {
	for _, n := range g.cfg.Networks {
		if n.Addr().Is6() {
			return n, true
		}
	}
	return n, false
}

// send6 sends one port a packet of IPv6 from the gateway's link-local address, whose
// checksum is at a place in what it carries.
func (g *Gateway) send6(client vnet.MAC, to netip.Addr, protocol, hops byte, payload []byte, at int) {
	from := lan.LinkLocal(g.mac)
	pseudo := append(append([]byte{}, from.AsSlice()...), to.AsSlice()...)
	pseudo = binary.BigEndian.AppendUint32(pseudo, uint32(len(payload)))
	pseudo = append(append(pseudo, 0, 0, 0, protocol), payload...)
	sum := packet.Checksum(pseudo)
	if sum == 0 {
		sum = 0xffff // of UDP 0 would be none
	}
	binary.BigEndian.PutUint16(payload[at:], sum)
	b := append(append([]byte{}, client[:]...), g.mac[:]...)
	b = append(b, 0x86, 0xdd, 0x60, 0, 0, 0)
	b = binary.BigEndian.AppendUint16(b, uint16(len(payload)))
	b = append(append(append(b, protocol, hops), from.AsSlice()...), to.AsSlice()...)
	f := new(vnet.Frame)
	f.Fill(append(b, payload...))
	g.port.Send(f)
}
