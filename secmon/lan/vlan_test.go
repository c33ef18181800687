package lan

import (
	"bytes"
	"net/netip"
	"testing"

	"warder/devices/virtio/net"
	"warder/secmon/lan/packet"
)

func TestVLANs(t *testing.T) {
	s := New(Config{})
	a, b, c := plug(t, s, 1), plug(t, s, 2), plug(t, s, 3, inVLAN(2))
	r := plug(t, s, 4, trunk(1, 2))
	all := []*guest{a, b, c, r}
	allow(t, s, everything)
	f := between(1, 4, packet.UDP, udp(1, 2))
	a.send(f)
	expect(t, "to a trunk it has a tag", withTag(f, packet.TypeVLAN, 1), all, r)
	f = between(4, 3, packet.UDP, udp(1, 2))
	r.send(withTag(f, packet.TypeVLAN, 0xe002)) // and a priority
	expect(t, "from a trunk it loses it", f, all, c)
	for _, no := range []struct {
		what string
		from *guest
		b    []byte
		why  Reason
	}{
		{"another VLAN", a, between(1, 3, packet.UDP, udp(1, 2)), Nobody},
		{"a tag on an access port", a, withTag(between(1, 3, packet.UDP, udp(1, 2)), packet.TypeVLAN, 2), Tagged},
		{"the port's own tag", a, withTag(between(1, 2, packet.UDP, udp(1, 2)), packet.TypeVLAN, 1), Tagged},
		{"a priority tag", a, withTag(between(1, 2, packet.UDP, udp(1, 2)), packet.TypeVLAN, 0), Tagged},
		{"no tag on a trunk", r, between(4, 1, packet.UDP, udp(1, 2)), Tagged},
		{"a VLAN that the trunk has not", r, withTag(between(4, 1, packet.UDP, udp(1, 2)), packet.TypeVLAN, 3), Tagged},
		{"two tags", r, withTag(withTag(between(4, 3, packet.UDP, udp(1, 2)), packet.TypeVLAN, 2), packet.TypeVLAN, 1), DoubleTag},
		{"a tag of providers", r, withTag(between(4, 3, packet.UDP, udp(1, 2)), packet.TypeDouble, 2), DoubleTag},
		{"a tag, and one of providers in it", r, withTag(withTag(between(4, 3, packet.UDP, udp(1, 2)), packet.TypeDouble, 2), packet.TypeVLAN, 1), DoubleTag},
		{"a question in another VLAN", a, arp(1, toAll, mac(1), v4(1), v4(3)), Nobody},
		{"half a tag", r, withTag(between(4, 3, packet.UDP, nil), packet.TypeVLAN, 2)[:16], Malformed},
	} {
		before := no.from.lost(no.why)
		no.from.send(no.b)
		expect(t, no.what, nil, all)
		if n := no.from.lost(no.why); n != before+1 {
			t.Errorf("%s is lost for another reason than %v: %v", no.what, no.why, no.from.port.Stats().Lost)
		}
	}
	kind, p := ip(v4(1), netip.AddrFrom4([4]byte{255, 255, 255, 255}), packet.UDP, udp(1, 2))
	f = ether(toAll, mac(1), kind, p)
	a.send(f)
	if got := r.take(); len(got) != 1 || !bytes.Equal(got[0], withTag(f, packet.TypeVLAN, 1)) {
		t.Errorf("the trunk got %x", got)
	}
	expect(t, "a broadcast stays in its VLAN", f, all, b)
}

// TestTagsAndOffloads has what is left to be done of a frame fit it with a tag and
// without one, and 64 KiB cross uncut.
func TestTagsAndOffloads(t *testing.T) {
	s := New(Config{})
	a, r := plug(t, s, 1), plug(t, s, 2, trunk(1))
	allow(t, s, everything)
	segment := tcp(1, 2, packet.ACK, make([]byte, 65000)...)
	for _, frame := range []func(from, to byte, proto byte, l4 []byte) []byte{between, between6} {
		there, back := frame(1, 2, packet.TCP, segment), frame(2, 1, packet.TCP, segment)
		l4 := uint16(len(there) - len(segment))
		plain := net.Offload{NeedsCsum: true, CsumStart: l4, CsumOffset: 16, GSO: net.TCPv4, GSOSize: 1448, HdrLen: l4 + 20}
		withTagged := plain
		withTagged.CsumStart += tagSize
		withTagged.HdrLen += tagSize
		for _, way := range []struct {
			from, to      *guest
			b, want       []byte
			offload, left net.Offload
		}{{a, r, there, withTag(there, packet.TypeVLAN, 1), plain, withTagged}, {r, a, withTag(back, packet.TypeVLAN, 1), back, withTagged, plain}} {
			f := new(net.Frame)
			f.Fill(way.b)
			f.Offload = way.offload
			way.from.port.Send(f)
			if len(way.to.got) != 1 || way.to.gso[0] != way.left || !bytes.Equal(way.to.got[0], way.want) {
				t.Errorf("%s got %d frames with %+v, want %+v", way.to.port.Name(), len(way.to.got), way.to.gso, way.left)
			}
			way.to.take()
		}
	}
}
