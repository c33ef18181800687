package lan

import (
	"encoding/binary"
	"sync"
	"testing"

	"warder/secmon/lan/packet"
)

// numbered is a frame with a number.
func numbered(from, to byte, n int, size int) []byte {
	payload := make([]byte, size)
	binary.BigEndian.PutUint32(payload, uint32(n))
	return between(from, to, packet.UDP, udp(1, 2, payload...))
}

func number(b []byte) int {
	return int(binary.BigEndian.Uint32(b[len(between(1, 2, packet.UDP, udp(1, 2))):]))
}

// TestOneStandsStill floods a receiver that takes nothing: what is for others goes on,
// others lose nothing but what does not fit, the order stays, and all is accounted
// for.
func TestOneStandsStill(t *testing.T) {
	s := New(Config{})
	flooder, other, still, third := plug(t, s, 1), plug(t, s, 2), plug(t, s, 3), plug(t, s, 4)
	allow(t, s, everything)
	still.makeRoom(0)
	const flood, few = 1000, 20
	for n := range flood {
		flooder.send(numbered(1, 3, n, 100))
	}
	for n := range few {
		other.send(numbered(2, 3, n, 100))
	}
	flooder.send(numbered(1, 4, 7, 100))
	if got := third.take(); len(got) != 1 {
		t.Errorf("%d frames to a port that takes them", len(got))
	}
	if w, l := flooder.port.Stats().Waiting, flooder.lost(Full); w != laneFrames+1 || l != flood-laneFrames-1 {
		t.Errorf("%d frames wait, %d are lost", w, l)
	}
	if l := other.lost(Full); l != 0 {
		t.Errorf("another has lost %d frames", l)
	}
	still.makeRoom(10)
	still.makeRoom(plenty)
	next := map[byte]int{}
	for i, b := range still.take() {
		from := b[11]
		if number(b) != next[from] {
			t.Fatalf("frame %d is number %d of port %d, want %d", i, number(b), from, next[from])
		}
		next[from]++
	}
	if next[1] != laneFrames+1 || next[2] != few {
		t.Errorf("got %v", next)
	}
	for _, g := range []*guest{flooder, other} {
		if st := g.port.Stats(); st.Waiting != 0 {
			t.Errorf("%+v", st)
		}
	}
}

// TestTurns has two senders with frames of different sizes wait for one receiver: each
// gets its part by bytes, and a port of a higher priority goes first.
func TestTurns(t *testing.T) {
	s := New(Config{})
	small, large, urgent, to := plug(t, s, 1), plug(t, s, 2), plug(t, s, 3, func(c *PortConfig) { c.Priority = 2 }), plug(t, s, 4)
	allow(t, s, everything)
	to.makeRoom(0)
	for n := range laneFrames {
		large.send(numbered(2, 4, n, 60000))
		small.send(numbered(1, 4, n, 2000))
	}
	for n := range 3 {
		urgent.send(numbered(3, 4, n, 100))
	}
	to.makeRoom(1 + 3 + 40) // the first was on its way already
	got := to.take()
	bytes := map[byte]int{}
	for i, b := range got {
		bytes[b[11]] += len(b)
		if (b[11] == 3) != (i >= 1 && i <= 3) {
			t.Errorf("frame %d is of port %d", i, b[11])
		}
	}
	if d := bytes[2] - bytes[1]; d < -quantum || d > 2*quantum {
		t.Errorf("bytes by port: %v", bytes)
	}
}

// TestIsolate cuts a port off, with frames of its that wait elsewhere and frames that
// wait for it.
func TestIsolate(t *testing.T) {
	s := New(Config{})
	a, b, c := plug(t, s, 1), plug(t, s, 2), plug(t, s, 3)
	all := []*guest{a, b, c}
	allow(t, s, everything)
	for _, g := range all {
		g.makeRoom(0)
	}
	for n := range 3 {
		a.send(numbered(1, 2, n, 10))
		b.send(numbered(2, 1, n, 10))
		c.send(numbered(3, 2, n, 10))
	}
	a.port.Isolate(true)
	a.send(numbered(1, 2, 3, 10))
	b.send(numbered(2, 1, 3, 10))
	b.send(arp(1, toAll, mac(2), v4(2), v4(1)))
	for _, g := range all {
		g.makeRoom(plenty)
	}
	if n := len(a.take()); n != 0 {
		t.Errorf("a port that is cut off got %d frames", n)
	}
	for _, f := range b.take() {
		if f[11] != 3 {
			t.Errorf("got a frame of port %d", f[11])
		}
	}
	if a.lost(Isolated) != 4 || b.lost(Isolated) != 5 || a.port.Stats().Waiting+b.port.Stats().Waiting != 0 {
		t.Errorf("%+v, %+v", a.port.Stats(), b.port.Stats())
	}
	a.port.Isolate(false)
	f := numbered(1, 2, 9, 10)
	a.send(f)
	expect(t, "put back", f, all, b)
}

// TestPortGoes takes a port away while its frames wait and others' wait for it, and
// another comes with its name and addresses.
func TestPortGoes(t *testing.T) {
	s := New(Config{})
	a, b := plug(t, s, 1), plug(t, s, 2)
	allow(t, s, everything)
	a.makeRoom(0)
	b.makeRoom(0)
	a.send(numbered(1, 2, 0, 10))
	b.send(numbered(2, 1, 0, 10))
	if _, err := s.AddPort(PortConfig{Name: "vm1", VLAN: 2, MAC: mac(9)}); err == nil {
		t.Error("two ports of one name")
	}
	if _, err := s.AddPort(PortConfig{Name: "x", VLAN: 1, MAC: mac(1)}); err == nil {
		t.Error("two ports with one MAC address")
	}
	s.Remove(a.port)
	b.makeRoom(plenty)
	if got := b.take(); len(got) != 0 {
		t.Errorf("got %d frames of a port that is gone", len(got))
	}
	a2 := plug(t, s, 1)
	a.send(numbered(1, 2, 1, 10))
	f := numbered(1, 2, 2, 10)
	a2.send(f)
	expect(t, "its successor", f, []*guest{a, a2, b}, b)
	if w := b.port.Stats().Waiting; w != 0 {
		t.Errorf("%d frames wait for a port that is gone", w)
	}
}

func TestRate(t *testing.T) {
	var b bucket
	b.set(1 << 20)
	passed, now := 0, int64(second)
	for ; now < 11*second; now += second / 1000 {
		for range 10 {
			if b.pass(1500, now) {
				passed += 1500
			}
		}
	}
	if low, high := 10<<20, 10<<20+minBurst+1500; passed < low-1500 || passed > high {
		t.Errorf("%d bytes in 10 s at 1 MiB/s, want %d to %d", passed, low, high)
	}
	b.set(0)
	if !b.pass(1<<20, now) {
		t.Error("without a bound something does not pass")
	}
}

// TestAtOnce has all ports send and change at once: for the race detector, and for the
// count of frames.
func TestAtOnce(t *testing.T) {
	s := New(Config{Inspector: inspect(func(*Seen) {})})
	var guests []*guest
	for n := range byte(4) {
		guests = append(guests, plug(t, s, n+1))
	}
	mirror := plug(t, s, 9, func(c *PortConfig) { *c = PortConfig{Name: "mirror", Mirror: []string{Everybody}} })
	allow(t, s, everything)
	const each = 300
	var all sync.WaitGroup
	for i, g := range guests {
		all.Go(func() {
			for n := range each {
				g.send(numbered(byte(i+1), byte((i+1+n%3)%4+1), n, 100))
				if n%50 == 0 {
					g.makeRoom(20)
				}
			}
		})
	}
	all.Go(func() {
		for range 100 {
			if err := s.SetRules([]Rule{everything}); err != nil {
				t.Error(err)
			}
			extra := plug(t, s, 50)
			s.Remove(extra.port)
			guests[0].port.Isolate(true)
			guests[0].port.Isolate(false)
			guests[0].port.Stats()
		}
	})
	all.Wait()
	for _, g := range guests {
		g.makeRoom(plenty)
	}
	var sent, received, lost uint64
	for _, g := range guests {
		st := g.port.Stats()
		sent, received = sent+st.Sent, received+st.Received
		for _, n := range st.Lost {
			lost += n
		}
		if st.Waiting != 0 {
			t.Errorf("%s: %d frames still wait", g.port.Name(), st.Waiting)
		}
	}
	if sent != 4*each || sent != received+lost {
		t.Errorf("%d sent, %d received, %d lost", sent, received, lost)
	}
	if n := mirror.port.Stats().Mirrored; n == 0 || n > received+lost {
		t.Errorf("%d frames were mirrored", n)
	}
}
