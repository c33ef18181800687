package flow_test

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"

	"warder/secmon/lan/flow"
	"warder/secmon/lan/packet"
)

// segment is the headers of a segment from a to b.
func segment(a, b string, flags uint8) *packet.Headers {
	src, dst := netip.MustParseAddrPort(a), netip.MustParseAddrPort(b)
	return &packet.Headers{
		IP: true, Transport: true, Protocol: packet.TCP, Src: packet.AddrOf(src.Addr()), Dst: packet.AddrOf(dst.Addr()),
		SrcPort: src.Port(), DstPort: dst.Port(), Flags: flags,
	}
}

// table is a table and what it ends.
type table struct {
	*flow.Table[int]
	evicted []string
	ended   []string
}

func newTable(size int) *table {
	t := &table{}
	t.Table = flow.New(size, func(f *flow.Flow[int], why string) {
		t.ended = append(t.ended, why+" "+name(f))
		if why == flow.Evicted {
			t.evicted = append(t.evicted, name(f))
		}
	})
	return t
}

func (t *table) len() int {
	n, _, _ := t.Counts()
	return n
}

func name(f *flow.Flow[int]) string {
	return fmt.Sprintf("%v:%d>%v:%d", f.Src.IP(), f.SrcPort, f.Dst.IP(), f.DstPort)
}

// see takes a frame in, as the switch does, and gives a copy of its flow.
func (t *table) see(h *packet.Headers, port int32, now int64) (flow.Flow[int], bool) {
	k, forward := flow.KeyOf(h, 1)
	p, hash := t.Part(&k)
	p.Lock()
	defer p.Unlock()
	f, fresh := p.Find(hash, &k), false
	if f == nil {
		f, fresh = p.Add(hash, h, &k, 1, forward, port, now), true
	}
	if f == nil {
		return flow.Flow[int]{}, false
	}
	d := f.Direction(forward)
	f.Count(d, 100, 1, now)
	f.Step(d, h.Flags)
	return *f, fresh
}

const (
	a = "10.0.0.1:40000"
	b = "10.0.0.2:80"
)

func TestHandshakeAndEnd(t *testing.T) {
	for _, ends := range [][2]string{{a, b}, {b, a}, {"[fd00::2]:1", "[fd00::1]:2"}} {
		a, b := ends[0], ends[1]
		tb := newTable(64)
		for i, s := range []struct {
			from, to string
			flags    uint8
			want     flow.State
		}{
			{a, b, packet.SYN, flow.Opening},
			{b, a, packet.SYN | packet.ACK, flow.Answered},
			{a, b, packet.ACK, flow.Established},
			{a, b, packet.ACK | packet.FIN, flow.Established},
			{b, a, packet.ACK, flow.Established},
			{b, a, packet.ACK | packet.FIN, flow.Closed},
			{a, b, packet.ACK, flow.Closed},
		} {
			f, fresh := tb.see(segment(s.from, s.to, s.flags), 3, int64(i))
			if f.State != s.want || fresh != (i == 0) || name(&f) != name(&flow.Flow[int]{Src: addr(a), Dst: addr(b), SrcPort: port(a), DstPort: port(b)}) {
				t.Errorf("segment %d: %v %v, fresh %v", i, name(&f), f.State, fresh)
			}
			if i == 6 && (f.Packets != [2]uint64{4, 3} || f.Bytes != [2]uint64{400, 300}) {
				t.Errorf("counted %v, %v", f.Packets, f.Bytes)
			}
		}
	}
}

func addr(s string) packet.Addr { return packet.AddrOf(netip.MustParseAddrPort(s).Addr()) }
func port(s string) uint16      { return netip.MustParseAddrPort(s).Port() }

func TestSeenFromTheMiddle(t *testing.T) {
	if f, _ := newTable(64).see(segment(b, a, packet.SYN|packet.ACK), 1, 0); f.SrcPort != 40000 || f.Packets != [2]uint64{0, 1} {
		t.Errorf("an answer first: %v %v", name(&f), f.Packets)
	}
	if f, _ := newTable(64).see(segment(b, a, packet.ACK), 1, 0); f.SrcPort != 80 || f.State != flow.Established {
		t.Errorf("data first: %v %v", name(&f), f.State)
	}
	if f, _ := newTable(64).see(segment(a, b, packet.SYN), flow.MaxPorts, 0); f.Last != 0 || f.SrcPort != 0 {
		t.Errorf("by a port that there is not: %v", name(&f))
	}
}

// TestWhoOpensMostGivesUp has one port flood the table while another has a few flows.
func TestWhoOpensMostGivesUp(t *testing.T) {
	tb := newTable(512)
	quiet := func(i int) *packet.Headers { return segment(fmt.Sprintf("10.0.0.1:%d", 1000+i), b, packet.SYN) }
	for i := range 20 {
		tb.see(quiet(i), 1, 0)
	}
	for i := range 5000 {
		tb.see(segment(fmt.Sprintf("10.0.0.9:%d", 1000+i), b, packet.SYN), 2, int64(1+i))
	}
	for i := range 20 {
		if _, fresh := tb.see(quiet(i), 1, 9000); fresh {
			t.Errorf("flow %d was pushed out", i)
		}
	}
	if tb.len() > 512 || int(tb.Evicted()) != len(tb.evicted) || tb.len()+len(tb.evicted) != 5020 {
		t.Errorf("%d flows, %d evicted, %d told", tb.len(), tb.Evicted(), len(tb.evicted))
	}
}

func TestAdvance(t *testing.T) {
	tb := newTable(64)
	tb.see(segment(a, b, packet.SYN), 0, 0)
	tb.see(segment("10.0.0.3:1", b, packet.ACK), 0, 0)
	tb.see(segment("10.0.0.4:1", b, packet.SYN), 1, 0)
	tb.see(segment("10.0.0.4:1", b, packet.RST), 1, 1e9)
	for _, c := range []struct {
		now  int64
		want string
	}{{5e9, "[]"}, {7e9, "[10.0.0.4:1>10.0.0.2:80]"}, {80e9, "[10.0.0.1:40000>10.0.0.2:80]"}, {8000e9, "[10.0.0.3:1>10.0.0.2:80]"}} {
		var over []string
		tb.Advance(c.now, func(f *flow.Flow[int]) { over = append(over, name(f)) })
		if fmt.Sprint(over) != c.want {
			t.Errorf("at %d: %v, want %v", c.now, over, c.want)
		}
	}
	if tb.len() != 0 {
		t.Errorf("%d flows left", tb.len())
	}
}

// TestAgreesWithAMap does random things to a table that nothing has to leave, and
// to a map.
func TestAgreesWithAMap(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	tb := newTable(1 << 14)
	want := map[string]uint64{}
	end := func() string { return fmt.Sprintf("10.0.0.%d:%d", 1+rnd.IntN(4), 1+rnd.IntN(8)) }
	for range 20000 {
		x, y := end(), end()
		if x == y {
			continue
		}
		tb.see(segment(x, y, packet.ACK), int32(rnd.IntN(4)), 0)
		if y < x {
			x, y = y, x
		}
		want[x+" "+y]++
	}
	got := 0
	tb.Each(func(f *flow.Flow[int]) bool {
		got++
		x, y := fmt.Sprintf("%v:%d", f.Src.IP(), f.SrcPort), fmt.Sprintf("%v:%d", f.Dst.IP(), f.DstPort)
		if y < x {
			x, y = y, x
		}
		if n := want[x+" "+y]; n != f.Packets[0]+f.Packets[1] {
			t.Errorf("%s %s: %v packets, want %d", x, y, f.Packets, n)
		}
		return true
	})
	if got != len(want) || len(tb.evicted) != 0 {
		t.Errorf("%d flows, want %d", got, len(want))
	}
}

func TestSteadyStateAllocatesNothing(t *testing.T) {
	tb := newTable(1024)
	h := segment(a, b, packet.ACK)
	tb.see(h, 0, 0)
	if n := testing.AllocsPerRun(100, func() { tb.see(h, 0, 1) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// TestKept has a flow that is kept outlive many of its owner's, but not too many kept ones.
func TestKept(t *testing.T) {
	tb := newTable(256)
	keep := func(h *packet.Headers, now int64) uint64 {
		f, _ := tb.see(h, 1, now)
		tb.Each(func(g *flow.Flow[int]) bool {
			if g.ID == f.ID {
				g.Keep(now)
			}
			return true
		})
		return f.ID
	}
	id := keep(segment(a, b, packet.SYN), 0)
	for i := range 5000 {
		tb.see(segment(fmt.Sprintf("10.0.0.9:%d", 1000+i), b, packet.SYN), 1, int64(i))
	}
	if f, fresh := tb.see(segment(a, b, packet.ACK), 1, 0); fresh || f.ID != id {
		t.Error("the kept one had to go")
	}
	if tb.Advance(599e9, func(f *flow.Flow[int]) {
		if f.ID == id {
			t.Error("over too soon")
		}
	}); tb.len() != 1 {
		t.Errorf("%d flows, want the kept one alone", tb.len())
	}
	for i := range 5000 {
		keep(segment(fmt.Sprintf("10.0.0.9:%d", 1000+i), b, packet.SYN), int64(i))
	}
	if n := tb.len(); n > 256/4+16 {
		t.Errorf("%d are kept of 256", n)
	}
	if _, fresh := tb.see(segment("10.0.0.7:7", b, packet.SYN), 2, 0); !fresh {
		t.Error("there is no room for others")
	}
}

// TestEnds has flows end, and looks at who is told and what is left.
func TestEnds(t *testing.T) {
	tb := newTable(64)
	first, _ := tb.see(segment(a, b, packet.SYN), 1, 0)
	k, forward := flow.KeyOf(segment(a, b, packet.SYN), 1)
	p, hash := tb.Part(&k)
	p.Lock()
	f := p.Find(hash, &k)
	p.Again(f, segment(a, b, packet.SYN), forward, 2, 5)
	p.Unlock()
	if f.Lock(first.ID) || !f.Lock(f.ID) {
		t.Error("a flow that is another one is taken for the first, or not for itself")
	}
	f.Unlock()
	if tb.Opened(1) != 0 || tb.Opened(2) != 1 || tb.Opened(77) != 0 {
		t.Errorf("opened %d, %d, %d", tb.Opened(1), tb.Opened(2), tb.Opened(77))
	}
	tb.see(segment("10.0.0.3:1", b, packet.ACK), 3, 0)
	tb.Drop(func(f *flow.Flow[int]) bool { return f.SrcPort == 1 }, "gone")
	if want := "[renewed 10.0.0.1:40000>10.0.0.2:80 gone 10.0.0.3:1>10.0.0.2:80]"; fmt.Sprint(tb.ended) != want || tb.len() != 1 {
		t.Errorf("ended %v, want %s; %d left", tb.ended, want, tb.len())
	}
}
