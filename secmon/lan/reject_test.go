package lan

import (
	"bytes"
	"testing"

	"warder/devices/virtio/net"
	"warder/secmon/lan/packet"
)

// TestRejection has a guest begin what is not declared: it is told so, by an error
// about its own packet whose checksums are right, in the name of the other.
func TestRejection(t *testing.T) {
	s := New(Config{})
	a, b := plug(t, s, 1, func(c *PortConfig) { c.VLAN, c.Trunk = 0, []uint16{1} }), plug(t, s, 2)
	allow(t, s, Rule{From: "vm1", To: "vm2", Proto: packet.TCP, First: 80, Last: 80})
	for _, c := range []struct {
		what  string
		from  *guest
		b     []byte
		told  bool
		proto byte
	}{
		{"TCP", b, between(2, 1, packet.TCP, tcp(1, 22, packet.SYN)), true, packet.ICMP},
		{"UDP over IPv6, long", b, between6(2, 1, packet.UDP, udp(1, 22, make([]byte, 1000)...)), true, packet.ICMPv6},
		{"an echo", b, between(2, 1, packet.ICMP, []byte{8, 0, 0, 0, 0, 7, 0, 1}), true, packet.ICMP},
		{"with a tag", a, withTag(between(1, 2, packet.TCP, tcp(1, 22, packet.SYN)), packet.TypeVLAN, 1), true, packet.ICMP},
		{"an answer to nothing", b, between(2, 1, packet.TCP, tcp(80, 1, packet.ACK)), false, 0},
		{"an error about nothing", b, between(2, 1, packet.ICMP, []byte{3, 13, 0, 0, 0, 0, 0, 0}), false, 0},
		{"what is declared", a, withTag(between(1, 2, packet.TCP, tcp(1, 80, packet.SYN)), packet.TypeVLAN, 1), false, 0},
		{"to nobody", b, between(2, 9, packet.TCP, tcp(1, 80, packet.SYN)), false, 0},
		{"as another", b, between(1, 1, packet.TCP, tcp(1, 80, packet.SYN)), false, 0},
	} {
		c.from.told = nil
		c.from.send(c.b)
		if len(c.from.told) != map[bool]int{true: 1, false: 0}[c.told] {
			t.Errorf("%s: told %d times", c.what, len(c.from.told))
		}
		if !c.told || len(c.from.told) == 0 {
			continue
		}
		sent, got := new(net.Frame), new(net.Frame)
		sent.Fill(c.b)
		got.Fill(c.from.told[0])
		if tagged(got.Head) {
			if tag, why := untag(got); why != None || tag != 1 {
				t.Errorf("%s: VLAN %d", c.what, tag)
			}
			_, _ = untag(sent)
		}
		p, q := decode(got), decode(sent)
		if p.Protocol != c.proto || p.Src != q.Dst || p.Dst != q.Src || net.MAC(got.Head) != c.from.port.cfg.MAC {
			t.Errorf("%s: %+v", c.what, p)
		}
		message, ip := got.Head[p.Payload-4:], got.Head[etherHeader:p.Payload-4]
		if n := min(len(message)-icmpHeader, len(sent.Head)-etherHeader); !bytes.Equal(message[icmpHeader:], sent.Head[etherHeader:etherHeader+n]) || n < 28 {
			t.Errorf("%s: quoted %x of %x", c.what, message, sent.Head)
		}
		sum := message
		if p.Type == packet.TypeIPv6 {
			sum = append(append(append([]byte{}, ip[8:]...), 0, 0, 0, byte(len(message)), 0, 0, 0, packet.ICMPv6), message...)
		} else if packet.Checksum(ip) != 0 {
			t.Errorf("%s: header %x", c.what, ip)
		}
		if packet.Checksum(sum) != 0 {
			t.Errorf("%s: checksum of %x", c.what, message)
		}
	}
	b.told = nil
	for range 100000 {
		b.send(between(2, 1, packet.UDP, udp(1, 22)))
	}
	if n := len(b.told); n == 0 || n > 10000 {
		t.Errorf("told %d times of 100,000", n)
	}
}
