package lan

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"warder/devices/virtio/net"
	"warder/secmon/lan/packet"
)

// sleeper is a port that sleeps, and who has woken it.
type sleeper struct {
	*Port
	mu    sync.Mutex
	by    []string
	guest *guest
}

func sleep(t testing.TB, s *Switch, n byte, change ...func(*PortConfig)) *sleeper {
	t.Helper()
	z := new(sleeper)
	cfg := PortConfig{Name: fmt.Sprintf("vm%d", n), VLAN: 1, MAC: mac(n), Addresses: []netip.Addr{v4(n), v6(n)}, Wake: func(p, by *Port) {
		if p != z.Port {
			t.Errorf("%s is to wake", p.Name())
		}
		z.mu.Lock()
		defer z.mu.Unlock()
		z.by = append(z.by, by.Name())
	}}
	for _, c := range change {
		c(&cfg)
	}
	var err error
	if z.Port, err = s.AddPort(cfg); err != nil {
		t.Fatal(err)
	}
	z.guest = &guest{t: t, port: z.Port, room: plenty}
	return z
}

// start plugs its VM in.
func (z *sleeper) start(t testing.TB) {
	t.Helper()
	if err := z.Start(z.guest); err != nil {
		t.Fatal(err)
	}
}

// woken is who has woken it since the last call.
func (z *sleeper) woken() []string {
	z.mu.Lock()
	defer z.mu.Unlock()
	by := z.by
	z.by = nil
	return by
}

func (z *sleeper) waiting() int {
	z.door.mu.Lock()
	defer z.door.mu.Unlock()
	return len(z.door.waits)
}

// solicit is a question for an address by neighbour discovery, to its group.
func solicit(from byte, sender, target netip.Addr) []byte {
	a := target.As16()
	group := net.MAC{0x33, 0x33, 0xff, a[13], a[14], a[15]}
	to := netip.AddrFrom16([16]byte{0: 0xff, 1: 2, 11: 1, 12: 0xff, 13: a[13], 14: a[14], 15: a[15]})
	message := append([]byte{neighbourSolicit, 0, 0, 0, 0, 0, 0, 0}, a[:]...)
	if !sender.IsUnspecified() {
		m := mac(from)
		message = append(append(message, sourceLinkOption, 1), m[:]...)
	}
	kind, b := ip(sender, to, packet.ICMPv6, message)
	return ether(group, mac(from), kind, b)
}

// TestAnswersForSleeper has the switch say where a port is that sleeps, to those alone who
// may say something to it or be said something.
func TestAnswersForSleeper(t *testing.T) {
	s := New(Config{})
	z := sleep(t, s, 9, func(c *PortConfig) { c.Trunk = []uint16{2} })
	a, b := plug(t, s, 1), plug(t, s, 2)
	tagged, up := plug(t, s, 3, trunk(2)), plug(t, s, 4, uplink)
	all := []*guest{a, b, tagged, up}
	allow(t, s, Rule{From: "vm1", To: "vm9", Proto: packet.TCP, First: 80, Last: 80}, Rule{From: "vm9", To: "vm3"}, Rule{From: "vm4", To: "vm9"})
	link := LinkLocal(mac(9))
	arpAnswer := func(to byte, sender netip.Addr) []byte {
		own, asker := mac(9), mac(to)
		f := append([]byte{0, 1, 8, 0, 6, 4, 0, 2}, own[:]...)
		f = append(append(f, v4(9).AsSlice()...), asker[:]...)
		return ether(asker, own, packet.TypeARP, append(f, sender.AsSlice()...))
	}
	advert := func(to byte, asker, target netip.Addr, flags byte) []byte {
		own := mac(9)
		message := append([]byte{neighbourAdvert, 0, 0, 0, flags, 0, 0, 0}, target.AsSlice()...)
		message = append(append(message, targetLinkOption, 1), own[:]...)
		pseudo := append(append(append([]byte{}, target.AsSlice()...), asker.AsSlice()...), 0, 0, 0, byte(len(message)), 0, 0, 0, packet.ICMPv6)
		sum := packet.Checksum(append(pseudo, message...))
		message[2], message[3] = byte(sum>>8), byte(sum)
		kind, p := ip(target, asker, packet.ICMPv6, message)
		return ether(mac(to), own, kind, p)
	}
	for _, c := range []struct {
		what     string
		from     *guest
		question []byte
		answer   []byte
	}{
		{"ARP", a, arp(1, toAll, mac(1), v4(1), v4(9)), arpAnswer(1, v4(1))},
		{"ARP again, to it alone", a, arp(1, mac(9), mac(1), v4(1), v4(9)), arpAnswer(1, v4(1))},
		{"a probe", a, arp(1, toAll, mac(1), netip.IPv4Unspecified(), v4(9)), arpAnswer(1, netip.IPv4Unspecified())},
		{"discovery", a, solicit(1, v6(1), v6(9)), advert(1, v6(1), v6(9), solicited)},
		{"its own address of the link", a, solicit(1, v6(1), link), advert(1, v6(1), link, solicited)},
		{"in another VLAN, of whom it may begin with", tagged, withTag(arp(1, toAll, mac(3), v4(3), v4(9)), packet.TypeVLAN, 2), withTag(arpAnswer(3, v4(3)), packet.TypeVLAN, 2)},
		{"from behind an uplink", up, arp(1, toAll, mac(77), v4(77), v4(9)), arpAnswer(77, v4(77))},
		{"who has no address yet", up, solicit(78, netip.IPv6Unspecified(), v6(9)), advert(78, netip.AddrFrom16(allNodes), v6(9), unasked)},
		{"not declared", b, arp(1, toAll, mac(2), v4(2), v4(9)), nil},
		{"not declared, by discovery", b, solicit(2, v6(2), v6(9)), nil},
		{"in another's name", a, arp(1, toAll, mac(1), v4(2), v4(9)), nil},
		{"with another's MAC address", b, arp(1, toAll, mac(1), v4(1), v4(9)), nil},
		{"an answer that nobody asked for", a, arp(2, mac(9), mac(1), v4(1), v4(9)), nil},
	} {
		c.from.send(c.question)
		if c.answer == nil {
			expect(t, c.what, nil, all)
		} else {
			expect(t, c.what, c.answer, all, c.from)
		}
	}
	z.Isolate(true)
	a.send(arp(1, toAll, mac(1), v4(1), v4(9)))
	expect(t, "where one is that is cut off", nil, all)
	z.Isolate(false)
	for range 10000 {
		a.send(arp(1, toAll, mac(1), v4(1), v4(9)))
	}
	if n := len(a.take()); n == 0 || n > 5000 {
		t.Errorf("answered %d times of 10,000", n)
	}
	if by := z.woken(); len(by) > 0 {
		t.Errorf("woken by %q, who have only asked", by)
	}
	z.start(t)
	z.Awake()
	q := arp(1, toAll, mac(1), v4(1), v4(9))
	a.send(q)
	expect(t, "who is awake answers", nil, all)
	if !slices.EqualFunc(z.guest.take(), [][]byte{q}, bytes.Equal) {
		t.Error("it is not asked")
	}
}

// TestWakes has only what begins a conversation that is allowed wake a port, once.
func TestWakes(t *testing.T) {
	s := New(Config{})
	z := sleep(t, s, 9)
	a, b, gate := plug(t, s, 1), plug(t, s, 2), plug(t, s, 5, func(c *PortConfig) { c.Trusted = true })
	m, err := s.AddPort(PortConfig{Name: "mirror", Mirror: []string{Everybody}})
	if err != nil {
		t.Fatal(err)
	}
	rules := []Rule{
		{From: "vm1", To: "vm9", Proto: packet.TCP, First: 80, Last: 80}, {From: "vm1", To: "vm9", Proto: packet.UDP, First: 53, Last: 53},
		{From: "vm1", To: "vm9", Proto: packet.ICMP}, {From: "vm9", To: "vm2", Proto: packet.UDP},
	}
	allow(t, s, rules...)
	syn := between(1, 9, packet.TCP, tcp(1000, 80, packet.SYN))
	asked := between(9, 2, packet.UDP, udp(4000, 53)) // which it does while it is up
	for _, c := range []struct {
		what  string
		from  *guest
		b     []byte
		wakes bool
	}{
		{"a connection", a, syn, true},
		{"a datagram over IPv6", a, between6(1, 9, packet.UDP, udp(1000, 53)), true},
		{"a ping", a, between(1, 9, packet.ICMP, []byte{8, 0, 0, 0, 0, 7, 0, 1}), true},
		{"another port", a, between(1, 9, packet.TCP, tcp(1000, 81, packet.SYN)), false},
		{"another service", b, between(2, 9, packet.TCP, tcp(1000, 80, packet.SYN)), false},
		{"in another's name", b, between(1, 9, packet.TCP, tcp(1001, 80, packet.SYN)), false},
		{"with another's address", a, ether(mac(9), mac(1), packet.TypeIPv4, syn[etherHeader:][:0:0]), false},
		{"the middle of a connection that it does not know any more", a, between(1, 9, packet.TCP, tcp(1002, 80, packet.ACK)), false},
		{"the end of one", a, between(1, 9, packet.TCP, tcp(1003, 80, packet.FIN|packet.ACK)), false},
		{"an answer", a, between(1, 9, packet.ICMP, []byte{0, 0, 0, 0, 0, 7, 0, 1}), false},
		{"an error", a, between(1, 9, packet.ICMP, append([]byte{3, 3, 0, 0, 0, 0, 0, 0}, asked[etherHeader:]...)), false},
		{"an answer to what it has begun", b, between(2, 9, packet.UDP, udp(53, 4000)), false},
		{"to all", a, ether(toAll, mac(1), packet.TypeIPv4, between(1, 9, packet.UDP, udp(1004, 53))[etherHeader:]), false},
		{"what warder says", gate, between(5, 9, packet.TCP, tcp(1000, 80, packet.SYN)), false},
	} {
		z.start(t)
		z.guest.send(asked)
		z.Stop()
		c.from.send(c.b)
		if by := z.woken(); len(by) > 0 != c.wakes || c.wakes && by[0] != c.from.port.Name() {
			t.Errorf("%s: woken by %q", c.what, by)
		}
		c.from.send(c.b)
		if by := z.woken(); len(by) > 0 {
			t.Errorf("%s: woken again by %q", c.what, by)
		}
		z.Sleep()
	}
	for what, how := range map[string]func() (back func()){
		"cut off":                func() func() { z.Isolate(true); return func() { z.Isolate(false) } },
		"of one that is cut off": func() func() { a.port.Isolate(true); return func() { a.port.Isolate(false) } },
		"diverted":               func() func() { z.Divert(m); return func() { z.Divert(nil) } },
		"not allowed any more":   func() func() { allow(t, s); return func() { allow(t, s, rules...) } },
	} {
		back := how()
		a.send(syn)
		if by := z.woken(); len(by) > 0 || z.waiting() > 0 {
			t.Errorf("%s: woken by %q", what, by)
		}
		back()
	}
	a.send(syn)
	if by := z.woken(); len(by) != 1 {
		t.Errorf("then it is woken by %q", by)
	}
}

// TestWaitsAtDoor has conversations wait for a port that wakes, as many as there is room for.
func TestWaitsAtDoor(t *testing.T) {
	s := New(Config{})
	z := sleep(t, s, 9)
	var peers []*guest
	for n := byte(1); n <= 8; n++ {
		peers = append(peers, plug(t, s, n))
	}
	a, b := peers[0], peers[1]
	allow(t, s, everything)
	syn := func(from byte, port uint16) []byte { return between(from, 9, packet.TCP, tcp(port, 80, packet.SYN)) }
	deal := func(what string, want ...[]byte) {
		t.Helper()
		if got := z.guest.take(); !slices.EqualFunc(got, want, bytes.Equal) {
			t.Errorf("%s: it got %x, want %x", what, got, want)
		}
		for _, g := range peers {
			if st := g.port.Stats(); st.Waiting != 0 || z.waiting() != 0 {
				t.Errorf("%s: %d frames of %s wait still", what, st.Waiting, g.port.Name())
			}
		}
	}
	ask := between6(2, 9, packet.UDP, udp(1000, 53, 1, 2, 3))
	a.send(syn(1, 1000))
	a.send(syn(1, 1000)) // again
	b.send(ask)
	b.send(ask)
	if n := z.waiting(); n != 3 || a.port.Stats().Waiting != 1 {
		t.Errorf("%d wait", n)
	}
	z.start(t)
	deny := between(9, 1, packet.TCP, tcp(80, 1000, packet.RST|packet.ACK))
	z.guest.send(between(9, 3, packet.UDP, udp(5, 5)))
	peers[2].send(between(3, 9, packet.UDP, udp(5, 5))) // an answer reaches it before it is ready
	if got := z.guest.take(); len(got) != 1 || z.waiting() != 3 {
		t.Errorf("it got %x", got)
	}
	z.Awake()
	deal("awake", syn(1, 1000), ask, ask)
	if by := z.woken(); len(by) != 1 {
		t.Errorf("woken by %q", by)
	}
	a.take()
	peers[2].take()
	z.guest.send(deny)
	unreach := between(9, 2, packet.ICMP, append([]byte{3, 3, 0, 0, 0, 0, 0, 0}, between(2, 9, packet.UDP, udp(1000, 53))[etherHeader:]...))
	b.send(between(2, 9, packet.UDP, udp(1000, 53)))
	z.guest.take()
	z.guest.send(unreach)
	expect(t, "it has just woken, and does not listen yet", nil, peers)
	if n := z.Stats().Lost[Asleep]; n != 2 {
		t.Errorf("%d refusals lost", n)
	}
	z.door.settled.Store(s.now())
	z.guest.send(deny)
	expect(t, "it listens at other ports", deny, peers, a)
	z.guest.send(unreach)
	expect(t, "it listens at other ports", unreach, peers, b)

	// It did not wake.
	z.Stop()
	z.Sleep()
	a.send(syn(1, 1001))
	z.Sleep()
	deal("in vain")
	if got := a.take(); len(got) != 1 || len(z.woken()) != 1 || a.lost(Asleep) != 2 {
		t.Errorf("told %x, %d lost", got, a.lost(Asleep))
	} else if h := decode(frame(got[0])); h.Protocol != packet.ICMP || h.SrcPort != unreachable || h.DstPort != unreachableHost || h.Src.IP() != v4(9) {
		t.Errorf("told %+v", h)
	}

	// Nobody takes all the room.
	for port := uint16(2000); port < 2100; port++ {
		for n, g := range peers {
			g.send(syn(byte(n+1), port))
		}
	}
	if n := z.waiting(); n != doorFrames || a.port.Stats().Waiting != doorOfOne || a.lost(Asleep) != 2+100-doorOfOne {
		t.Errorf("%d wait, %d of one, %d were lost", n, a.port.Stats().Waiting, a.lost(Asleep))
	}
	a.port.Stop() // whose memory goes
	if n := z.waiting(); n != doorFrames-doorOfOne || a.port.Stats().Waiting != 0 {
		t.Errorf("%d wait still, %d of one that has gone", n, a.port.Stats().Waiting)
	}
	b.port.Isolate(true)
	if n := z.waiting(); n != doorFrames-2*doorOfOne {
		t.Errorf("%d wait still", n)
	}
	// What is not allowed any more, or cut, while it waits does not pass.
	allow(t, s, Rule{From: "vm3", To: "vm9"}, Rule{From: "vm4", To: "vm9"})
	cut := peers[3]
	s.flows.Each(func(f *Flow) bool {
		f.Data.cut = f.Data.from == cut.port
		return true
	})
	z.start(t)
	z.Awake()
	for _, f := range z.guest.take() {
		if net.MAC(f[6:]) != mac(3) {
			t.Errorf("it got %x", f)
		}
	}
	deal("then")
	if cut.lost(Cut) == 0 || peers[4].lost(Policy) != doorOfOne {
		t.Errorf("lost: %+v, %+v", cut.port.Stats().Lost, peers[4].port.Stats().Lost)
	}

	// A sender leaves room for other things, however many sleep.
	var more []*sleeper
	for n := byte(20); n < 30; n++ {
		more = append(more, sleep(t, s, n))
	}
	allow(t, s, everything)
	for _, x := range more {
		for port := uint16(1); port <= doorOfOne; port++ {
			cut.send(between(4, x.cfg.MAC[5], packet.UDP, udp(port, 53)))
		}
	}
	if n := cut.port.Stats().Waiting; n != doorOfAll {
		t.Errorf("%d wait of one sender", n)
	}
	for _, x := range more { // removed while they wake
		s.Remove(x.Port)
		x.Awake()
	}
	deal("and then")
}

func frame(b []byte) *net.Frame {
	f := new(net.Frame)
	f.Fill(b)
	return f
}

// TestInUse looks who makes use of a port, as time goes by.
func TestInUse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := New(Config{})
		z := sleep(t, s, 9)
		a, b, gate := plug(t, s, 1), plug(t, s, 2), plug(t, s, 5, func(c *PortConfig) { c.Trusted = true })
		allow(t, s, everything)
		z.start(t)
		z.Awake()
		looked := time.Now()
		used := func(what string, want bool) {
			t.Helper()
			if got := s.InUse(looked); got[z.Port] != want || len(got) > 1 {
				t.Errorf("%s: in use %v", what, got)
			}
			time.Sleep(time.Second)
			looked = time.Now()
		}
		say := func(from *guest, b []byte) { time.Sleep(time.Millisecond); from.send(b) }
		flags := func(from, to byte, port uint16, flags byte) []byte {
			if from == 9 {
				return between(from, to, packet.TCP, tcp(80, port, flags))
			}
			return between(from, to, packet.TCP, tcp(port, 80, flags))
		}
		used("by nobody", false)
		say(z.guest, between(9, 2, packet.TCP, tcp(1, 80, packet.SYN)))
		say(b, between(2, 9, packet.TCP, tcp(80, 1, packet.SYN|packet.ACK)))
		used("it makes use of others", false)
		say(gate, flags(5, 9, 5, packet.SYN))
		used("warder knows itself", false)

		say(a, flags(1, 9, 7, packet.SYN))
		used("asked", true)
		say(z.guest, flags(9, 1, 7, packet.SYN|packet.ACK))
		say(a, flags(1, 9, 7, packet.ACK))
		time.Sleep(time.Hour)
		used("a connection that says nothing", true)
		z.Isolate(true)
		used("cut off", false)
		z.Isolate(false)
		say(a, flags(1, 9, 7, packet.FIN|packet.ACK))
		used("one end has closed it", true)
		say(z.guest, flags(9, 1, 7, packet.FIN|packet.ACK))
		used("both have", false)

		say(a, flags(1, 9, 8, packet.SYN))
		used("another", true)
		allow(t, s, Rule{From: "vm2", To: "vm9"})
		used("not allowed any more", false)
		allow(t, s, everything)
		say(a, flags(1, 9, 8, packet.RST))
		say(b, flags(2, 9, 8, packet.SYN))
		say(z.guest, flags(9, 2, 8, packet.RST))
		used("refused", false)
		say(b, flags(2, 9, 9, packet.SYN))
		used("asked", true)
		z.Stop()
		time.Sleep(time.Second)
		z.start(t)
		used("of the VM before", false)

		say(b, between6(2, 9, packet.UDP, udp(1, 53)))
		used("a datagram", true)
		used("has passed", false)
		say(z.guest, between6(9, 2, packet.UDP, udp(53, 1)))
		used("its answer", true)
		used("has too", false)
	})
}

// TestDoorRace has ports wake and sleep while others come, go and are cut off: every frame is
// given back.
func TestDoorRace(t *testing.T) {
	s := New(Config{Flows: 512})
	z := sleep(t, s, 9)
	allow(t, s, everything)
	z.start(t)
	var all sync.WaitGroup
	var peers []*guest
	for n := byte(1); n <= 3; n++ {
		g := plug(t, s, n)
		peers = append(peers, g)
		all.Go(func() {
			for i := range uint16(300) {
				g.send(between(n, 9, packet.UDP, udp(i, 53)))
				if i%50 == 0 {
					g.port.Stop()
					if w := g.port.Stats().Waiting; w != 0 {
						t.Errorf("%d frames wait of one that has gone", w)
					}
					_ = g.port.Start(g)
				}
			}
		})
	}
	all.Go(func() {
		for range 300 {
			switch rand.IntN(4) {
			case 0:
				z.Sleep()
			case 1:
				z.Awake()
			case 2:
				z.Isolate(true)
				z.Isolate(false)
			case 3:
				s.InUse(time.Now())
			}
		}
	})
	all.Wait()
	z.Sleep()
	for _, g := range peers {
		if st := g.port.Stats(); st.Waiting != 0 {
			t.Errorf("%d frames of %s wait still", st.Waiting, g.port.Name())
		}
	}
}
