package lan

import (
	"math/rand/v2"
	"net/netip"
	"testing"

	"warder/devices/virtio/net"
	"warder/secmon/lan/packet"
)

// FuzzSwitch sends sequences of frames into several ports: some as they come out of
// the fuzzer, most with headers that nearly fit. Whatever they are, a port gets only
// what the rules let it have, of its VLAN, from who it says to be from.
func FuzzSwitch(f *testing.F) {
	f.Add([]byte("\x00\x01\x06\x02\x00\x50aaaa\x10\x00\x06\x12\x50\x00bbbb"))
	f.Add([]byte("\x00\x02\x11\x00\x00\x35\x01\x00\x11\x00\x35\x00\x03\x44\x3a\x88\x00\x00"))
	f.Add(between(1, 2, packet.TCP, tcp(1, 80, packet.SYN)))
	f.Fuzz(func(t *testing.T, in []byte) { sequence(t, in) })
}

// TestRandomFrames is FuzzSwitch on random bytes.
func TestRandomFrames(t *testing.T) {
	const seed = 1
	random := rand.NewChaCha8([32]byte{seed})
	got := 0
	for range 3000 {
		in := make([]byte, 400)
		random.Read(in)
		got += sequence(t, in)
	}
	if got < 1000 {
		t.Errorf("only %d frames came through, so nothing is shown", got)
	}
}

// TestRandomFramesWake has the fuzzer's frames meet a port that sleeps: who may begin
// nothing with it does not wake it, and what waits is bounded and goes to it alone.
func TestRandomFramesWake(t *testing.T) {
	const seed = 2
	random := rand.NewChaCha8([32]byte{seed})
	woken, delivered := 0, 0
	for range 3000 {
		in := make([]byte, 400)
		random.Read(in)
		s := New(Config{Flows: 16})
		z := sleep(t, s, 2)
		guests := []*guest{plug(t, s, 1), z.guest, plug(t, s, 3), plug(t, s, 4, trunk(1, 2)), plug(t, s, 5, uplink)}
		declared := func(from, to int, pkt *packet.Headers) bool {
			return to == 1 && (from == 0 || from == 4 && pkt.Protocol == packet.UDP)
		}
		allow(t, s, Rule{From: "vm1", To: "vm2"}, Rule{From: "vm5", To: "vm2", Proto: packet.UDP}, Rule{From: "vm2", To: "vm4"})
		begun := map[[2]int]bool{}
		for len(in) > 0 {
			from, b := crafted(&in)
			if from == 1 {
				continue
			}
			begin(guests, declared, begun, from, b)
			guests[from].send(b)
			for _, by := range z.woken() {
				if woken++; !begun[[2]int{from, 1}] || by != guests[from].port.Name() {
					t.Fatalf("%s wakes it by %x", by, b)
				}
			}
			if n := z.waiting(); n > doorFrames {
				t.Fatalf("%d frames wait", n)
			}
			switch random.Uint64() & 7 {
			case 0:
				z.Sleep()
			case 1:
				z.start(t)
				z.Awake()
				for _, got := range z.guest.take() {
					if delivered++; net.MAC(got) != z.cfg.MAC {
						t.Fatalf("it got %x", got)
					}
				}
				z.Stop()
				z.Sleep()
			}
		}
	}
	if woken < 100 || delivered < 50 {
		t.Errorf("woken %d times, and got %d frames, so nothing is shown", woken, delivered)
	}
}

// sequence sends the frames that in makes, and says how many came through.
func sequence(t *testing.T, in []byte) (received int) {
	s := New(Config{Flows: 16})
	guests := []*guest{plug(t, s, 1), plug(t, s, 2), plug(t, s, 3, inVLAN(2)), plug(t, s, 4, trunk(1, 2)), plug(t, s, 5, uplink)}
	declared := func(from, to int, pkt *packet.Headers) bool {
		return from == 0 && to == 1 && pkt.Protocol == packet.TCP && pkt.DstPort == 80 && !pkt.Later() || from == 2 && to == 3 || from == 4 && to == 1 && pkt.Protocol == packet.UDP
	}
	allow(t, s, Rule{From: "vm1", To: "vm2", Proto: packet.TCP, First: 80, Last: 80}, Rule{From: "vm3", To: "vm4"}, Rule{From: "vm5", To: "vm2", Proto: packet.UDP})
	begun := map[[2]int]bool{} // who may answer whom
	for len(in) > 0 {
		from, b := crafted(&in)
		begin(guests, declared, begun, from, b)
		guests[from].send(b)
		for to, g := range guests {
			if to != from { // what looks so is another guest's
				g.got = append(g.got, g.told...)
			}
			g.told = nil
			for _, got := range g.take() {
				check(t, guests, declared, begun, from, to, got)
				received++
			}
		}
	}
	return received
}

// crafted takes one frame and its sender from the fuzzer's bytes.
func crafted(in *[]byte) (from int, b []byte) {
	next := func() (c byte) {
		if len(*in) > 0 {
			c = (*in)[0]
			*in = (*in)[1:]
		}
		return c
	}
	how := next()
	from = int(how&15) % 5
	if how >= 0xf0 { // as it is
		n := min(int(next()), len(*in))
		b = append(b, (*in)[:n]...)
		*in = (*in)[n:]
		return from, b
	}
	likely := func(list ...byte) byte {
		c := next()
		if int(c>>2) < 40 {
			return list[int(c)%len(list)]
		}
		return c
	}
	to, proto, flags := next()%6, likely(packet.TCP, packet.UDP, packet.TCP, packet.ICMP, packet.ICMPv6), likely(packet.SYN, packet.ACK, 1, 2, 8, neighbourSolicit)
	ports := []byte{0, likely(80, 1, 2), 0, likely(80, 1, 2)}
	l4 := append(ports, make([]byte, 20)...)
	l4[12], l4[13] = 0x50, flags
	if proto == packet.ICMP || proto == packet.ICMPv6 {
		l4[0] = flags
	}
	sender := byte(from + 1)
	if how&0x40 != 0 && next()&3 == 0 {
		sender = next()%6 + 1 // says to be another
	}
	switch how >> 4 & 3 {
	case 0:
		b = between(sender, to+1, proto, l4)
	case 1:
		b = between6(sender, to+1, proto, l4)
	case 2:
		b = arp(flags&3, mac(to+1), mac(sender), v4(sender), v4(to+1))
	case 3:
		kind, p := ip(v4(sender), netip.AddrFrom4([4]byte{255, 255, 255, 255}), proto, l4)
		b = ether(toAll, mac(sender), kind, p)
	}
	if from == 3 && flags&0x80 == 0 {
		b = withTag(b, packet.TypeVLAN, uint16(next()%4))
	}
	if len(*in) > 0 && next()&7 == 0 { // and something is wrong with it
		b[int(next())%len(b)] ^= next()
	}
	return from, b
}

// begin notes what a frame may begin. Who may begin anything may be asked and answered.
func begin(guests []*guest, declared func(from, to int, pkt *packet.Headers) bool, begun map[[2]int]bool, from int, b []byte) {
	f := new(net.Frame)
	f.Fill(b)
	if tagged(f.Head) {
		if _, why := untag(f); why != None {
			return
		}
	}
	pkt := decode(f)
	if pkt.Fault != packet.Sound {
		return
	}
	for to := range guests {
		if declared(from, to, &pkt) {
			begun[[2]int{from, to}] = true
		}
	}
}

// check says what is wrong about a frame that a port got.
func check(t *testing.T, guests []*guest, declared func(from, to int, pkt *packet.Headers) bool, begun map[[2]int]bool, from, to int, got []byte) {
	a, b := guests[from].port, guests[to].port
	f := new(net.Frame)
	f.Fill(got)
	vlan := b.cfg.VLAN
	if len(b.trunk) > 0 {
		tag, why := untag(f)
		if why != None {
			t.Fatalf("%s got a frame without a tag: %x", b.Name(), got)
		}
		vlan = tag
	}
	if tagged(f.Head) || !a.in(vlan) || !b.in(vlan) || from == to {
		t.Fatalf("%s got in VLAN %d from %s: %x", b.Name(), vlan, a.Name(), got)
	}
	if !a.cfg.Uplink && net.MAC(f.Head[6:]) != a.cfg.MAC || a.cfg.Uplink && f.Head[6] == 2 && f.Head[11] <= 4 && net.MAC(f.Head[6:]) == mac(f.Head[11]) && guests[f.Head[11]-1].port.in(vlan) {
		t.Fatalf("%s got a frame from %s with another's MAC address: %x", b.Name(), a.Name(), got)
	}
	pkt := decode(f)
	if pkt.Fault != packet.Sound {
		t.Fatalf("%s got from %s what is %v: %x", b.Name(), a.Name(), pkt.Fault, got)
	}
	src := pkt.Src
	if !pkt.IP {
		src = pkt.ARP.Sender
	}
	if !a.cfg.Uplink && !a.has(src) && src != nobody && src != nobody6 {
		t.Fatalf("%s got a frame from %s with another's address: %x", b.Name(), a.Name(), got)
	}
	related := map[[2]int]bool{{0, 1}: true, {1, 0}: true, {2, 3}: true, {3, 2}: true, {4, 1}: true, {1, 4}: true}
	_, asks := asksFor(f.Head, &pkt)
	switch {
	case !pkt.IP || pkt.Protocol == packet.ICMPv6 && (asks || pkt.ICMPType == neighbourAdvert):
		if !related[[2]int{from, to}] {
			t.Fatalf("%s is asked by %s: %x", b.Name(), a.Name(), got)
		}
	case declared(from, to, &pkt) || begun[[2]int{to, from}]:
	default:
		t.Fatalf("%s got from %s what is not declared: %x", b.Name(), a.Name(), got)
	}
}
