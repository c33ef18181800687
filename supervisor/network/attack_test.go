package network

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"

	"golang.org/x/sys/unix"

	vnet "warder/devices/virtio/net"
	"warder/secmon/lan"
	"warder/secmon/lan/packet"
)

// An attack is a frame that a guest may not send, and why not.
type attack struct {
	what  string
	why   lan.Reason
	frame []byte
}

// station is who is on the LAN, as frames have it.
type station struct {
	mac  vnet.MAC
	addr netip.Addr // of IPv4
}

// attacks are what one station tries at another.
func attacks(self, victim station) []attack {
	stranger, group := vnet.MAC{2, 9, 9, 9, 9, 9}, vnet.MAC{0x33, 0x33, 0, 0, 0, 1}
	own6 := lan.LinkLocal(self.mac)
	udp := func(from, to uint16) []byte {
		b := binary.BigEndian.AppendUint16(nil, from)
		return append(binary.BigEndian.AppendUint16(b, to), 0, 8, 0, 0)
	}
	ip4 := func(from netip.Addr, proto byte, part uint16, b []byte) []byte {
		h := binary.BigEndian.AppendUint16([]byte{0x45, 0}, uint16(20+len(b)))
		h = append(binary.BigEndian.AppendUint16(append(h, 0, 1), part), 64, proto, 0, 0)
		h = append(append(h, from.AsSlice()...), victim.addr.AsSlice()...)
		binary.BigEndian.PutUint16(h[10:], packet.Checksum(h))
		return append(h, b...)
	}
	ip6 := func(from netip.Addr, next byte, b []byte) []byte {
		h := binary.BigEndian.AppendUint16([]byte{0x60, 0, 0, 0}, uint16(len(b)))
		h = append(append(h, next, 255), from.AsSlice()...)
		return append(append(h, lan.LinkLocal(victim.mac).AsSlice()...), b...)
	}
	ether := func(to, from vnet.MAC, kind uint16, b []byte, tags ...uint16) []byte {
		f := append(append([]byte{}, to[:]...), from[:]...)
		for _, t := range tags {
			f = binary.BigEndian.AppendUint16(append(f, 0x81, 0), t)
		}
		return append(binary.BigEndian.AppendUint16(f, kind), b...)
	}
	v4 := func(b []byte, tags ...uint16) []byte { return ether(victim.mac, self.mac, packet.TypeIPv4, b, tags...) }
	v6 := func(b []byte) []byte { return ether(victim.mac, self.mac, packet.TypeIPv6, b) }
	arp := func(inside vnet.MAC, says netip.Addr) []byte {
		b := append([]byte{0, 1, 8, 0, 6, 4, 0, 2}, inside[:]...)
		b = append(append(b, says.AsSlice()...), victim.mac[:]...)
		return ether(victim.mac, self.mac, packet.TypeARP, append(b, victim.addr.AsSlice()...))
	}
	good := ip4(self.addr, packet.UDP, 0, udp(1, 2))
	broken := func(at int, x byte) []byte {
		b := append([]byte{}, good...)
		b[at] ^= x
		return v4(b)
	}
	syn := append(udp(1, 2)[:4], 0, 0, 0, 1, 0, 0, 0, 0, 0x50, 0, 1, 0, 0, 0, 0, 0)
	return []attack{
		{"another's MAC", lan.SourceMAC, ether(victim.mac, stranger, packet.TypeIPv4, good)},
		{"another's address", lan.SourceIP, v4(ip4(victim.addr.Next(), packet.UDP, 0, udp(1, 2)))},
		{"another's IPv6 address", lan.SourceIP, v6(ip6(lan.LinkLocal(stranger), packet.UDP, udp(1, 2)))},
		{"a VLAN's tag", lan.Tagged, v4(good, 1)},
		{"two tags", lan.Tagged, v4(good, 2, 1)},
		{"ARP for another", lan.Neighbour, arp(self.mac, victim.addr)},
		{"ARP with another's MAC", lan.Neighbour, arp(stranger, self.addr)},
		{"a neighbour's advertisement for another", lan.Neighbour, v6(ip6(own6, packet.ICMPv6, append([]byte{136, 0, 0, 0, 0x20, 0, 0, 0}, lan.LinkLocal(victim.mac).AsSlice()...)))},
		{"a router", lan.Server, ether(group, self.mac, packet.TypeIPv6, ip6(own6, packet.ICMPv6, []byte{134, 0, 0, 0, 64, 0, 7, 8, 0, 0, 0, 0, 0, 0, 0, 0}))},
		{"a redirect", lan.Server, v4(ip4(self.addr, packet.ICMP, 0, []byte{5, 1, 0, 0, 10, 1, 0, 9}))},
		{"a DHCP server", lan.Server, v4(ip4(self.addr, packet.UDP, 0, udp(67, 68)))},
		{"a DHCPv6 server", lan.Server, v6(ip6(own6, packet.UDP, udp(547, 546)))},
		{"another version", lan.Malformed, broken(0, 0x20)},
		{"a short header", lan.Malformed, broken(0, 1)},
		{"a long packet", lan.Malformed, broken(2, 0x10)},
		{"a wrong checksum", lan.Malformed, broken(11, 1)},
		{"flags that TCP never sends", lan.Malformed, v4(ip4(self.addr, packet.TCP, 0, syn))},
		{"a fragment of a header", lan.Malformed, v4(ip4(self.addr, packet.TCP, 0x2000, syn[:8]))},
		{"a fragment over a header", lan.Malformed, v4(ip4(self.addr, packet.TCP, 1, syn[8:]))},
		{"extension headers without end", lan.Malformed, v6(ip6(own6, 60, []byte{60, 255, 0, 0, 0, 0, 0, 0}))},
		{"an IPv4 address in IPv6", lan.Malformed, v6(ip6(netip.AddrFrom16(self.addr.As16()), packet.UDP, udp(1, 2)))},
		{"a protocol of nobody", lan.Protocol, ether(victim.mac, self.mac, 0x88b5, good)},
	}
}

// tries is how often each is tried: few enough that what is told of the system calls is not
// more than a VM may cause.
const tries = 10

// attackFrom has the guest try all of them.
func attackFrom(victim station) error {
	self, send, err := raw()
	if err != nil {
		return err
	}
	for _, a := range attacks(self, victim) {
		for range tries {
			if err := send(a.frame); err != nil {
				return fmt.Errorf("%s: %w", a.what, err)
			}
		}
	}
	return nil
}

// flood sends a victim datagrams until it is stopped, and now and then what may not be sent.
func flood(victim station) error {
	self, send, err := raw()
	if err != nil {
		return err
	}
	bad := attacks(self, victim)
	const size = 1000
	b := append(append([]byte{}, victim.mac[:]...), self.mac[:]...)
	b = append(b, 8, 0, 0x45, 0, (28+size)>>8, (28+size)&0xff, 0, 0, 0, 0, 64, packet.UDP, 0, 0)
	b = append(append(b, self.addr.AsSlice()...), victim.addr.AsSlice()...)
	binary.BigEndian.PutUint16(b[24:], packet.Checksum(b[14:34]))
	b = append(b, 3, 0xe8, 0, 9, (8+size)>>8, (8+size)&0xff, 0, 0)
	b = append(b, make([]byte, size)...)
	n := 0
	repeat(func() {
		f := b
		if n%16 == 0 {
			f = bad[n/16%len(bad)].frame
		}
		_ = send(f) // its queue may be full
		n++
	})
	return nil
}

// raw is who the guest is, and how it sends frames as they are.
func raw() (self station, send func([]byte) error, err error) {
	card, err := net.InterfaceByName("eth0")
	if err != nil {
		return self, nil, err
	}
	own, err := card.Addrs()
	if err != nil {
		return self, nil, err
	}
	self.mac = vnet.MAC(card.HardwareAddr)
	for _, a := range own {
		if p, err := netip.ParsePrefix(a.String()); err == nil && p.Addr().Is4() {
			self.addr = p.Addr()
		}
	}
	if !self.addr.IsValid() {
		return self, nil, fmt.Errorf("no address of IPv4 in %v", own)
	}
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0) // as long as the program runs
	if err != nil {
		return self, nil, err
	}
	return self, func(b []byte) error {
		return unix.Sendto(fd, b, 0, &unix.SockaddrLinklayer{Ifindex: card.Index, Halen: uint8(len(vnet.MAC{}))})
	}, nil
}
