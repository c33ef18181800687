package lan

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net/netip"
	"sync"
	"testing"

	"warder/devices/virtio/net"
	"warder/secmon/lan/packet"
)

// guest is what is plugged into a port in tests: it keeps what it gets, as long as it
// has room.
type guest struct {
	t    testing.TB
	port *Port

	mu   sync.Mutex
	got  [][]byte
	gso  []net.Offload
	told [][]byte // by the switch, of what is not declared
	room int      // frames
}

func (g *guest) Queue(*net.Frame) int { return 0 }

func (g *guest) Deliver(_ int, f *net.Frame, _ int) (int, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.room == 0 {
		return 0, net.ErrFull
	}
	b := content(f)
	if rejection(b) {
		g.told = append(g.told, b)
		return 0, nil
	}
	g.room--
	g.got = append(g.got, b)
	g.gso = append(g.gso, f.Offload)
	return 0, nil
}

// makeRoom has the guest take n frames more.
func (g *guest) makeRoom(n int) {
	g.mu.Lock()
	g.room = n
	g.mu.Unlock()
	g.port.Ready(0)
}

// take is what the guest got since the last call.
func (g *guest) take() [][]byte {
	g.mu.Lock()
	defer g.mu.Unlock()
	got := g.got
	g.got, g.gso = nil, nil
	return got
}

// rejection reports whether a frame without a tag says that something is prohibited.
func rejection(b []byte) bool {
	f := new(net.Frame)
	f.Fill(b)
	if tagged(f.Head) {
		_, _ = untag(f)
	}
	h := decode(f)
	return h.Protocol == packet.ICMP && h.SrcPort == unreachable && h.DstPort == prohibited || h.Protocol == packet.ICMPv6 && h.SrcPort == unreachable6 && h.DstPort == prohibited6
}

func decode(f *net.Frame) (h packet.Headers) {
	h.Decode(f.Head, f.Len, f.GSO != net.NoGSO)
	return h
}

func content(f *net.Frame) []byte {
	b := bytes.Clone(f.Head)
	for _, p := range f.Body {
		b = append(b, p...)
	}
	return b
}

// send sends a frame as it stands on a wire.
func (g *guest) send(b []byte) {
	f := new(net.Frame)
	f.Fill(b)
	g.port.Send(f)
}

// lost counts what the guest's port has lost for a reason.
func (g *guest) lost(why Reason) uint64 { return g.port.Stats().Lost[why] }

const plenty = 1 << 30

// plug adds a port with a guest at it. Its addresses are made of n.
func plug(t testing.TB, s *Switch, n byte, change ...func(*PortConfig)) *guest {
	t.Helper()
	cfg := PortConfig{Name: fmt.Sprintf("vm%d", n), VLAN: 1, MAC: mac(n), Addresses: []netip.Addr{v4(n), v6(n)}}
	for _, c := range change {
		c(&cfg)
	}
	p, err := s.AddPort(cfg)
	if err != nil {
		t.Fatal(err)
	}
	g := &guest{t: t, port: p, room: plenty}
	if err := p.Start(g); err != nil {
		t.Fatal(err)
	}
	return g
}

func inVLAN(n uint16) func(*PortConfig) { return func(c *PortConfig) { c.VLAN = n } }
func trunk(vlans ...uint16) func(*PortConfig) {
	return func(c *PortConfig) { c.VLAN, c.Trunk = 0, vlans }
}
func uplink(c *PortConfig) { c.Uplink, c.MAC, c.Addresses = true, net.MAC{}, nil }

func mac(n byte) net.MAC   { return net.MAC{2, 0, 0, 0, 0, n} }
func v4(n byte) netip.Addr { return netip.AddrFrom4([4]byte{10, 0, 0, n}) }
func v6(n byte) netip.Addr { return netip.AddrFrom16([16]byte{0: 0xfd, 15: n}) }

var toAll = net.MAC{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}

func ether(to, from net.MAC, kind uint16, payload []byte) []byte {
	b := append(append([]byte{}, to[:]...), from[:]...)
	return append(binary.BigEndian.AppendUint16(b, kind), payload...)
}

// withTag is a frame with a VLAN tag.
func withTag(b []byte, kind, vlan uint16) []byte {
	t := binary.BigEndian.AppendUint16(bytes.Clone(b[:12]), kind)
	return append(binary.BigEndian.AppendUint16(t, vlan), b[12:]...)
}

// ip is an IP packet.
func ip(from, to netip.Addr, proto byte, payload []byte) (kind uint16, b []byte) {
	if from.Is4() {
		b = []byte{0x45, 0}
		b = binary.BigEndian.AppendUint16(b, uint16(ipv4Header+len(payload)))
		b = append(b, 0, 0, 0, 0, 64, proto, 0, 0)
		kind = packet.TypeIPv4
	} else {
		b = []byte{0x60, 0, 0, 0}
		b = append(binary.BigEndian.AppendUint16(b, uint16(len(payload))), proto, 255)
		kind = packet.TypeIPv6
	}
	b = append(append(b, from.AsSlice()...), to.AsSlice()...)
	if from.Is4() {
		sum(b)
	}
	return kind, append(b, payload...)
}

// sum gives the header of an IPv4 packet its checksum.
func sum(b []byte) {
	b[10], b[11] = 0, 0
	binary.BigEndian.PutUint16(b[10:], packet.Checksum(b[:ipv4Header]))
}

func tcp(from, to uint16, flags byte, payload ...byte) []byte {
	b := binary.BigEndian.AppendUint16(nil, from)
	b = binary.BigEndian.AppendUint16(b, to)
	b = append(b, 0, 0, 0, 1, 0, 0, 0, 1, 0x50, flags, 1, 0, 0, 0, 0, 0)
	return append(b, payload...)
}

func udp(from, to uint16, payload ...byte) []byte {
	b := binary.BigEndian.AppendUint16(nil, from)
	b = binary.BigEndian.AppendUint16(b, to)
	b = binary.BigEndian.AppendUint16(b, uint16(8+len(payload)))
	return append(append(b, 0, 0), payload...)
}

// between is a frame from one guest to another.
func between(from, to byte, proto byte, l4 []byte) []byte {
	kind, b := ip(v4(from), v4(to), proto, l4)
	return ether(mac(to), mac(from), kind, b)
}

func between6(from, to byte, proto byte, l4 []byte) []byte {
	kind, b := ip(v6(from), v6(to), proto, l4)
	return ether(mac(to), mac(from), kind, b)
}

// arp is a question for, or an answer of, an address.
func arp(op byte, to, from net.MAC, sender, target netip.Addr) []byte {
	b := []byte{0, 1, 8, 0, 6, 4, 0, op}
	b = append(append(b, from[:]...), sender.AsSlice()...)
	b = append(append(b, 0, 0, 0, 0, 0, 0), target.AsSlice()...)
	return ether(to, from, packet.TypeARP, b)
}

func allow(t testing.TB, s *Switch, rules ...Rule) {
	t.Helper()
	if err := s.SetRules(rules); err != nil {
		t.Fatal(err)
	}
}

var everything = Rule{From: Everybody, To: Everybody}

// expect checks which guests got b, and nothing else.
func expect(t *testing.T, what string, b []byte, guests []*guest, who ...*guest) {
	t.Helper()
	for _, g := range guests {
		var want [][]byte
		for _, w := range who {
			if w == g {
				want = [][]byte{b}
			}
		}
		if got := g.take(); len(got) != len(want) || len(want) == 1 && !bytes.Equal(got[0], want[0]) {
			t.Errorf("%s: %s got %x, want %x", what, g.port.Name(), got, want)
		}
	}
}

func TestDefaultIsDeny(t *testing.T) {
	s := New(Config{})
	a, b := plug(t, s, 1), plug(t, s, 2)
	for _, f := range [][]byte{
		between(1, 2, packet.TCP, tcp(1000, 80, packet.SYN)), between6(1, 2, packet.UDP, udp(1000, 53)), between(1, 2, packet.ICMP, []byte{8, 0, 0, 0, 0, 7, 0, 0}),
		arp(1, toAll, mac(1), v4(1), v4(2)),
	} {
		a.send(f)
	}
	expect(t, "nothing is declared", nil, []*guest{a, b})
	if n := a.lost(Policy); n != 4 {
		t.Errorf("%d frames lost by policy, want 4", n)
	}
}

func TestRules(t *testing.T) {
	s := New(Config{})
	a, b, c := plug(t, s, 1), plug(t, s, 2), plug(t, s, 3)
	all := []*guest{a, b, c}
	allow(t, s, Rule{From: "vm1", To: "vm2", Proto: packet.TCP, First: 80, Last: 81}, Rule{From: Everybody, To: "vm3", Proto: packet.UDP, First: 53, Last: 53}, Rule{From: "vm3", To: "vm1", Proto: packet.ICMP})
	echo, answer := []byte{8, 0, 0, 0, 0, 7, 0, 1}, []byte{0, 0, 0, 0, 0, 7, 0, 1}
	unreachable := func(quoted []byte) []byte { return append([]byte{3, 3, 0, 0, 0, 0, 0, 0}, quoted[etherHeader:]...) }
	query := between(1, 3, packet.UDP, udp(5000, 53, 1, 2, 3))
	for _, step := range []struct {
		what string
		from *guest
		b    []byte
		to   *guest // nil: nobody
	}{
		{"an answer that nobody asked for", b, between(2, 1, packet.TCP, tcp(80, 1000, packet.SYN|packet.ACK)), nil},
		{"declared", a, between(1, 2, packet.TCP, tcp(1000, 80, packet.SYN)), b},
		{"its answer", b, between(2, 1, packet.TCP, tcp(80, 1000, packet.SYN|packet.ACK)), a},
		{"a connection the other way, between the same ports", b, between(2, 1, packet.TCP, tcp(80, 1000, packet.SYN)), nil},
		{"the last port of the rule", a, between6(1, 2, packet.TCP, tcp(1000, 81, packet.SYN)), b},
		{"one port above", a, between(1, 2, packet.TCP, tcp(1000, 82, packet.SYN)), nil},
		{"another protocol", a, between(1, 2, packet.UDP, udp(1000, 80)), nil},
		{"everybody asks for names", b, between(2, 3, packet.UDP, udp(1000, 53)), c},
		{"who is asked does not ask", c, between(3, 2, packet.UDP, udp(53, 1001)), nil},
		{"the answer of a name server", c, between(3, 2, packet.UDP, udp(53, 1000)), b},
		{"ping", c, between(3, 1, packet.ICMP, echo), a},
		{"pong", a, between(1, 3, packet.ICMP, answer), c},
		{"ping the other way", a, between(1, 3, packet.ICMP, echo), nil},
		{"a query", a, query, c},
		{"its port is not there", c, between(3, 1, packet.ICMP, unreachable(query)), a},
		{"an error about nothing that was sent", b, between(2, 1, packet.ICMP, unreachable(between(1, 2, packet.UDP, udp(1, 2)))), nil},
		{"a fragment of nothing", a, fragmentOf(between(1, 2, packet.TCP, tcp(1000, 80, packet.ACK)), 7, 100), nil},
		{"the first of what is allowed", a, fragmentOf(between(1, 2, packet.TCP, tcp(1000, 80, packet.ACK)), 7, 0), b},
		{"the second", a, fragmentOf(between(1, 2, packet.TCP, tcp(1000, 80, packet.ACK)), 7, 100), b},
		{"of another packet", a, fragmentOf(between(1, 2, packet.TCP, tcp(1000, 80, packet.ACK)), 8, 100), nil},
		{"the same number the other way", b, fragmentOf(between(2, 1, packet.TCP, tcp(80, 1000, packet.ACK)), 7, 100), nil},
		{"the first of what is not allowed", a, fragmentOf(between(1, 2, packet.TCP, tcp(1000, 82, packet.ACK)), 9, 0), nil},
		{"and its second", a, fragmentOf(between(1, 2, packet.TCP, tcp(1000, 82, packet.ACK)), 9, 100), nil},
	} {
		step.from.send(step.b)
		if step.to != nil {
			expect(t, step.what, step.b, all, step.to)
		} else {
			expect(t, step.what, nil, all)
		}
	}
}

// fragmentOf makes an IPv4 packet a fragment of one with a number, from an offset on.
func fragmentOf(b []byte, id, offset uint16) []byte {
	binary.BigEndian.PutUint16(b[etherHeader+4:], id)
	if offset == 0 {
		offset = 0x2000 // more follow
	}
	binary.BigEndian.PutUint16(b[etherHeader+6:], offset)
	sum(b[etherHeader:])
	return b
}

func TestRulesChange(t *testing.T) {
	s := New(Config{})
	a, b := plug(t, s, 1), plug(t, s, 2)
	all := []*guest{a, b}
	web, ssh := Rule{From: "vm1", To: "vm2", Proto: packet.TCP, First: 80, Last: 80}, Rule{From: "vm1", To: "vm2", Proto: packet.TCP, First: 22, Last: 22}
	allow(t, s, web, ssh)
	a.send(between(1, 2, packet.TCP, tcp(1000, 80, packet.SYN)))
	a.send(between(1, 2, packet.TCP, tcp(1000, 22, packet.SYN)))
	b.take()
	answer80, answer22 := between(2, 1, packet.TCP, tcp(80, 1000, packet.ACK)), between(2, 1, packet.TCP, tcp(22, 1000, packet.ACK))
	for range 2000 { // while others come and go, more than there may be at a time
		other, err := s.AddPort(PortConfig{Name: "other", VLAN: a.port.cfg.VLAN, MAC: net.MAC{2, 0, 0, 0, 1, 9}})
		if err != nil || other.slot != 2 {
			t.Fatalf("%+v, %v", other, err)
		}
		allow(t, s, web)
		b.send(answer80)
		expect(t, "a flow that is still allowed", answer80, all, a)
		s.Remove(other)
	}
	b.send(answer22)
	expect(t, "a flow that is not allowed any more", nil, all)
	allow(t, s, web, ssh)
	b.send(answer22)
	expect(t, "its answers come back only with its own frames", nil, all)
	f := between(1, 2, packet.TCP, tcp(1000, 22, packet.ACK))
	a.send(f)
	expect(t, "it goes on", f, all, b)
}

func TestCut(t *testing.T) {
	s := New(Config{Flows: 256})
	a, b := plug(t, s, 1), plug(t, s, 2)
	all := []*guest{a, b}
	allow(t, s, everything)
	var id uint64
	s.inspector = inspect(func(f *Seen) { id = f.Flow })
	f := between(1, 2, packet.UDP, udp(1000, 80))
	a.send(f)
	expect(t, "before", f, all, b)
	if id == 0 || s.Cut(id+1) || !s.Cut(id) {
		t.Fatalf("flow %d cannot be cut", id)
	}
	for range 3 {
		a.send(f)
		b.send(between(2, 1, packet.UDP, udp(80, 1000)))
	}
	for port := range uint16(1000) { // many others do not bring it back
		a.send(between(1, 2, packet.UDP, udp(2000+port, 80)))
	}
	b.take()
	a.send(f)
	expect(t, "cut", nil, all)
}

type inspect func(*Seen)

func (inspect) Start(*Flows)        {}
func (inspect) Ended(*Flow, string) {}

func (i inspect) Inspect(frames []Seen) {
	for j := range frames {
		i(&frames[j])
	}
}

func TestVerdicts(t *testing.T) {
	s := New(Config{})
	a, b := plug(t, s, 1), plug(t, s, 2)
	m := plug(t, s, 3, func(c *PortConfig) { *c = PortConfig{Name: "mirror", Mirror: []string{Everybody}} })
	all := []*guest{a, b, m}
	allow(t, s, everything)
	verdict := Forward
	var seen []Seen
	s.inspector = inspect(func(f *Seen) { f.Verdict = verdict; seen = append(seen, *f) })
	f := between(1, 2, packet.TCP, tcp(1000, 80, packet.SYN))
	copied := withTag(f, packet.TypeVLAN, 1)
	for _, v := range []struct {
		verdict Verdict
		to      []*guest
		mirror  bool
	}{{Forward, []*guest{b}, true}, {Drop, nil, false}, {Divert, nil, true}, {CutFlow, nil, false}, {Forward, nil, false}} {
		verdict = v.verdict
		a.send(f)
		if got := m.take(); (len(got) == 1) != v.mirror || v.mirror && !bytes.Equal(got[0], copied) {
			t.Errorf("%v: mirrored %x", v.verdict, got)
		}
		expect(t, fmt.Sprint(v.verdict), f, all, v.to...)
	}
	if last := seen[4]; last.Refused != Cut || last.Flow != seen[0].Flow {
		t.Errorf("after the cut: %+v", last)
	}
	a.send(withTag(f, packet.TypeVLAN, 7))
	if last := seen[5]; last.Refused != Tagged || last.VLAN != 0 {
		t.Errorf("what is refused is not shown: %+v", last)
	}
	if h := seen[0].Headers; seen[0].To != b.port || h.Dst.IP() != v4(2) || h.DstPort != 80 || h.Flags != packet.SYN || h.Payload != len(f) {
		t.Errorf("%+v", seen[0])
	}
}

// TestDivert has a flow, and then a VM, diverted to a mirror port and put back.
func TestDivert(t *testing.T) {
	s := New(Config{})
	a, b, c := plug(t, s, 1), plug(t, s, 2), plug(t, s, 3)
	of := func(names ...string) func(*PortConfig) {
		return func(cfg *PortConfig) { *cfg = PortConfig{Name: "mirror of " + names[0], Mirror: names} }
	}
	m, whole := plug(t, s, 4, of("vm3")), plug(t, s, 5, of(Everybody))
	allow(t, s, everything)
	var id uint64
	s.inspector = inspect(func(f *Seen) { id = f.Flow })
	one, two := between(1, 2, packet.UDP, udp(1000, 80)), between(1, 2, packet.UDP, udp(1001, 80))
	answer, third := between(2, 1, packet.UDP, udp(80, 1000)), between(1, 3, packet.UDP, udp(1, 2))
	send := func(what string, from *guest, f []byte, to, copied *guest) {
		t.Helper()
		from.send(f)
		for _, g := range []*guest{a, b, c} {
			if got := g.take(); (len(got) == 1) != (g == to) || g == to && !bytes.Equal(got[0], f) {
				t.Errorf("%s: %s got %x", what, g.port.Name(), got)
			}
		}
		for _, g := range []*guest{m, whole} {
			if got := g.take(); (len(got) == 1) != (g == copied) || g == copied && !bytes.Equal(got[0], withTag(f, packet.TypeVLAN, 1)) {
				t.Errorf("%s: %s got %x", what, g.port.Name(), got)
			}
		}
	}
	send("before", a, one, b, whole)
	if found, err := s.Divert(id, m.port); !found || err != nil {
		t.Fatal(found, err)
	}
	send("a flow that is diverted", a, one, nil, m)
	send("its answer", b, answer, nil, m)
	send("another flow", a, two, b, whole)
	if n := a.lost(Diverted); n != 1 {
		t.Errorf("%d frames are counted as diverted", n)
	}
	if found, err := s.Divert(id+100, m.port); found || err != nil {
		t.Error("a flow that there is not is diverted")
	}
	if _, err := s.Divert(id, b.port); err == nil || a.port.Divert(c.port) == nil {
		t.Error("diverted to a port that is no mirror")
	}
	if _, err := s.Divert(1, nil); err != nil {
		t.Fatal(err)
	}
	send("put back", a, one, b, whole)
	if err := b.port.Divert(m.port); err != nil {
		t.Fatal(err)
	}
	send("to a VM that is diverted", a, two, nil, m)
	send("of it", b, answer, nil, m)
	if err := b.port.Divert(nil); err != nil || b.port.Diverted() != nil {
		t.Fatal(err)
	}
	send("the VM is put back", a, two, b, whole)
	a.send(third)
	if got := c.take(); len(got) != 1 {
		t.Errorf("%x", got)
	}
	if len(m.take()) != 1 || len(whole.take()) != 1 {
		t.Error("a mirror of one VM does not get what that is sent, or a mirror of all")
	}
}
