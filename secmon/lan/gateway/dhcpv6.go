package gateway

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"time"

	vnet "warder/devices/virtio/net"
	"warder/secmon/lan"
	"warder/secmon/lan/packet"
)

// DHCPv6 (RFC 8415): ports, messages, options and statuses.
const (
	dhcpv6Server = 547
	dhcpv6Client = 546

	solicit            = 1
	advertise          = 2
	requestAddress     = 3
	confirm            = 4
	renew              = 5
	rebind             = 6
	reply              = 7
	release            = 8
	decline            = 9
	informationRequest = 11

	clientID    = 1
	serverID    = 2
	association = 3 // IA_NA: its number, two times, options
	lentAddress = 5 // within one: the address, two lifetimes
	statusCode  = 13
	rapidCommit = 14
	dnsServers  = 23
	searchList  = 24

	success     = 0
	noAddresses = 2
	notOnLink   = 4
)

// answerDHCPv6 answers a frame if it is a question of DHCPv6, and reports whether it is
// one. As with IPv4 each port has its address, and nothing is remembered.
func (g *Gateway) answerDHCPv6(b []byte, h *packet.Headers) bool {
	if h.Type != packet.TypeIPv6 || h.Protocol != packet.UDP || h.DstPort != dhcpv6Server || h.Fragment {
		return false
	}
	client := vnet.MAC(b[6:])
	p := g.cfg.Switch.Station(g.cfg.VLAN, client)
	if p == nil || !h.Src.IP().IsLinkLocalUnicast() {
		g.counts.ignored.Add(1)
		return true
	}
	answer := g.lease6(b[h.Payload:h.Payload+h.PayloadLen], p)
	if answer == nil {
		g.counts.ignored.Add(1)
		return true
	}
	g.counts.leases.Add(1)
	datagram := binary.BigEndian.AppendUint16(nil, dhcpv6Server)
	datagram = binary.BigEndian.AppendUint16(datagram, dhcpv6Client)
	datagram = binary.BigEndian.AppendUint16(datagram, uint16(udpHeader+len(answer)))
	g.send6(client, h.Src.IP(), packet.UDP, 64, append(append(datagram, 0, 0), answer...), 6)
	return true
}

// options are options of DHCPv6 that have not been read yet.
type options []byte

// next takes the next option off. It fails at the end, and where one is longer than
// what there is.
func (o *options) next() (code uint16, data []byte, ok bool) {
	b := *o
	if len(b) < 4 {
		return 0, nil, false
	}
	n := int(binary.BigEndian.Uint16(b[2:]))
	if len(b) < 4+n {
		return 0, nil, false
	}
	*o = b[4+n:]
	return binary.BigEndian.Uint16(b), b[4 : 4+n], true
}

// option appends an option of some parts.
func option(b []byte, code uint16, parts ...[]byte) []byte {
	data := bytes.Join(parts, nil)
	b = binary.BigEndian.AppendUint16(b, code)
	return append(binary.BigEndian.AppendUint16(b, uint16(len(data))), data...)
}

func seconds(d time.Duration) []byte {
	return binary.BigEndian.AppendUint32(nil, uint32(d.Seconds()))
}

const (
	// maxAssociations bounds how many a client is answered of at once. One is usual.
	maxAssociations = 4
	// maxDUID is how long the name of a client may be, in bytes (RFC 8415, 11.1).
	maxDUID = 130
)

// question is what a client says.
type question struct {
	kind           byte
	client, server []byte
	numbers        [][]byte // of associations
	wants          [][]byte // addresses
	rapid          bool
}

func readQuestion(m []byte) (q question, ok bool) {
	if len(m) < 4 {
		return q, false
	}
	q.kind = m[0]
	rest := options(m[4:])
	for code, data, ok := rest.next(); ok; code, data, ok = rest.next() {
		switch code {
		case clientID:
			if len(data) > maxDUID {
				return q, false
			}
			q.client = data
		case serverID:
			q.server = data
		case rapidCommit:
			q.rapid = true
		case association:
			if len(data) < 12 || len(q.numbers) == maxAssociations {
				return q, false
			}
			q.numbers = append(q.numbers, data[:4])
			inner := options(data[12:])
			for code, data, ok := inner.next(); ok; code, data, ok = inner.next() {
				if code == lentAddress && len(data) >= 16 {
					q.wants = append(q.wants, data[:16])
				}
			}
		}
	}
	return q, len(rest) == 0
}

// lease6 is the answer to a message of the client at a port, nil for none.
func (g *Gateway) lease6(m []byte, p *lan.Port) []byte {
	network, has := g.network6()
	q, ok := readQuestion(m)
	own := append([]byte{0, 3, 0, 1}, g.mac[:]...) // DUID-LL of Ethernet
	if !has || !ok || q.server != nil && !bytes.Equal(q.server, own) || q.client == nil && q.kind != informationRequest {
		return nil
	}
	answer := append([]byte{reply}, m[1:4]...)
	if q.client != nil {
		answer = option(answer, clientID, q.client)
	}
	answer = option(answer, serverID, own)
	a := address6(p, network)
	switch q.kind {
	case solicit:
		if q.rapid {
			answer = option(answer, rapidCommit)
		} else {
			answer[0] = advertise
		}
		answer = lend(answer, &q, a)
	case requestAddress, renew, rebind:
		answer = lend(answer, &q, a)
	case confirm:
		status := byte(success)
		for _, w := range q.wants {
			if !bytes.Equal(w, a.AsSlice()) {
				status = notOnLink
			}
		}
		return option(answer, statusCode, []byte{0, status})
	case release, decline:
		return option(answer, statusCode, []byte{0, success})
	case informationRequest:
	default:
		return nil
	}
	answer = option(answer, dnsServers, network.Masked().Addr().Next().AsSlice())
	return option(answer, searchList, []byte{byte(len(domain))}, []byte(domain), []byte{0})
}

// lend gives each association of a client's the port's address.
func lend(answer []byte, q *question, a netip.Addr) []byte {
	for _, number := range q.numbers {
		given := option(nil, statusCode, []byte{0, noAddresses})
		if a.IsValid() {
			given = option(nil, lentAddress, a.AsSlice(), seconds(leaseTime), seconds(2*leaseTime))
		}
		answer = option(answer, association, number, seconds(leaseTime/2), seconds(leaseTime*4/5), given)
	}
	return answer
}

// address6 is the address of a port in a network, none if it has none.
func address6(p *lan.Port, network netip.Prefix) (none netip.Addr) {
	for _, a := range p.Config().Addresses {
		if network.Contains(a) {
			return a
		}
	}
	return none
}
