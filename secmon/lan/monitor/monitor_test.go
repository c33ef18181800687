package monitor_test

import (
	"bytes"
	"crypto/tls"
	stdnet "net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"golang.org/x/net/dns/dnsmessage"

	"warder/devices/virtio/net"
	"warder/secmon/event"
	"warder/secmon/lan"
	"warder/secmon/lan/filter"
	"warder/secmon/lan/packet"
)

func same(t *testing.T, got []string, want ...string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("told\n\t%s\nwant\n\t%s", strings.Join(got, "\n\t"), strings.Join(want, "\n\t"))
	}
}

func TestHTTPConversation(t *testing.T) {
	w := newWorld(t)
	c := w.dial("a", 40000, "b", 80)
	c.mss = 7 // heads in many segments
	c.say(0, "GET /x?y=z HTTP/1.1\r\nHost: shop\r\nUser-Agent: curl/8\r\n\r\n")
	c.say(1, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello")
	c.say(0, "POST /login HTTP/1.1\r\nHost: shop\r\nContent-Length: 9\r\n\r\nuser=root")
	c.say(1, "HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")
	c.close()
	w.later(10)
	same(t, w.told(),
		"flow start a a>b:80", "packet http-request a a>b:80 http GET shop /x 0", "packet http-response b a>b:80 http    200",
		"packet http-request a a>b:80 http POST shop /login 0", "packet http-response b a>b:80 http    403", "flow end a a>b:80 http (closed)")
}

func TestFlowIsTheSameBothWays(t *testing.T) {
	w := newWorld(t)
	c := w.dial("a", 40000, "b", 80)
	c.say(0, "GET / HTTP/1.1\r\n\r\n")
	c.say(1, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
	want := event.FlowID("tcp", netip.MustParseAddrPort("10.0.0.2:80"), netip.MustParseAddrPort("10.0.0.1:40000"))
	w.mu.Lock()
	defer w.mu.Unlock()
	for i := range w.events {
		if n := w.events[i].Net; n.Flow != want || n.Source.Port() != 40000 || n.VLAN != 1 || n.Initiated != (w.events[i].VM == "a") {
			t.Errorf("%s: flow %d, want %d", line(&w.events[i]), n.Flow, want)
		}
	}
	if len(w.events) != 3 {
		t.Errorf("%d events", len(w.events))
	}
	if at := w.mon.AtSwitch(want); len(at) != 1 || !w.sw.Cut(at[0]) || w.mon.AtSwitch(want+1) != nil {
		t.Errorf("the switch has it as %v", at)
	}
}

func TestCountsOfFlows(t *testing.T) {
	w := newWorld(t)
	c := w.dial("a", 40000, "b", 9)
	c.say(0, strings.Repeat("x", 2500))
	// 10,000 bytes to be cut into segments of 1,000.
	p := w.packet("b", "a", &layers.TCP{SrcPort: 9, DstPort: 40000, ACK: true, Seq: c.seq[1], Ack: c.seq[0]}, make([]byte, 10000))
	f := new(net.Frame)
	f.Fill(p)
	f.GSO, f.GSOSize, f.NeedsCsum = net.TCPv4, 1000, true
	w.vms["b"].port.Send(f)
	flows := w.mon.Flows()
	if len(flows) != 1 {
		t.Fatalf("%d flows", len(flows))
	}
	got := flows[0]
	// Frames of a handshake are padded to 60 bytes.
	if got.Packets != [2]uint64{5, 11} || got.Bytes != [2]uint64{2*60 + 3*54 + 2500, 60 + uint64(len(p))} {
		t.Errorf("%+v", got)
	}
	if got.State != "established" || got.SourceVM != "a" || got.DestinationVM != "b" || got.Destination != netip.MustParseAddrPort("10.0.0.2:9") {
		t.Errorf("%+v", got)
	}
}

func dns(t testing.TB, name string, answer bool) []byte {
	n := dnsmessage.MustNewName(name)
	m := dnsmessage.Message{Header: dnsmessage.Header{ID: 1, Response: answer}, Questions: []dnsmessage.Question{{Name: n, Type: dnsmessage.TypeA, Class: dnsmessage.ClassINET}}}
	if answer {
		m.Answers = []dnsmessage.Resource{{Header: dnsmessage.ResourceHeader{Name: n, Class: dnsmessage.ClassINET}, Body: &dnsmessage.AResource{A: [4]byte{192, 0, 2, 1}}}}
	}
	p, err := m.Pack()
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestDNS(t *testing.T) {
	w := newWorld(t)
	w.datagram("a", 5000, "b", 53, dns(t, "www.example.org.", false))
	w.datagram("b", 53, "a", 5000, dns(t, "www.example.org.", true))
	w.datagram("a", 5000, "b", 53, dns(t, "again.example.org.", false))
	c := w.dial("a", 5001, "b", 53)
	q := dns(t, "tcp.example.org.", false)
	c.say(0, string(append([]byte{0, byte(len(q))}, q...)))
	same(t, w.told(),
		"flow start a a>b:53", "packet dns-query a a>b:53 dns A www.example.org []", "packet dns-answer b a>b:53 dns A www.example.org NOERROR[192.0.2.1]",
		"packet dns-query a a>b:53 dns A again.example.org []", "flow start a a>b:53", "packet dns-query a a>b:53 dns A tcp.example.org []")
}

func hello(t testing.TB, cfg *tls.Config) string {
	near, far := stdnet.Pipe()
	defer near.Close()
	go func() {
		tls.Client(far, cfg).Handshake() // fails when the pipe is closed
		far.Close()
	}()
	var b bytes.Buffer
	buf := make([]byte, 4096)
	for {
		n, err := near.Read(buf)
		if err != nil {
			t.Fatal(err)
		}
		b.Write(buf[:n])
		if p := b.Bytes(); len(p) >= 5 && len(p) >= 5+int(p[3])<<8+int(p[4]) {
			return b.String()
		}
	}
}

func TestTLSAndSSH(t *testing.T) {
	w := newWorld(t)
	c := w.dial("a", 1000, "b", 443)
	c.mss = 100
	c.say(0, hello(t, &tls.Config{ServerName: "bank.example", NextProtos: []string{"h2"}}))
	s := w.dial("a", 1001, "b", 22)
	s.say(1, "SSH-2.0-OpenSSH_9.2p1\r\n")
	s.say(0, "SSH-2.0-Go\r\n")
	same(t, w.told(), "flow start a a>b:443", "packet tls-hello a a>b:443 tls bank.example [h2]", "flow start a a>b:22",
		"packet ssh-banner b a>b:22 ssh (SSH-2.0-OpenSSH_9.2p1)", "packet ssh-banner a a>b:22 ssh (SSH-2.0-Go)")
	if n := w.mon.Stats().Unread; n != 0 {
		t.Errorf("%d bytes are held", n)
	}
}

func TestWrongPort(t *testing.T) {
	w := newWorld(t)
	c := w.dial("a", 1000, "b", 443)
	c.say(0, "SSH-2.0-dropbear\r\n")
	d := w.dial("a", 1001, "b", 9090) // nobody's port
	d.say(0, "GET / HTTP/1.1\r\n\r\n")
	e := w.dial("a", 1002, "b", 3333)
	e.say(0, `{"id": 1, "method": "mining.subscribe", "params": ["cpuminer/2.5.1"]}`+"\n")
	same(t, w.told(), "flow start a a>b:443", "anomaly wrong-port a a>b:443 (speaks ssh to port 443, where quic belongs)", "packet ssh-banner a a>b:443 ssh (SSH-2.0-dropbear)",
		"flow start a a>b:9090", "packet http-request a a>b:9090 http GET  / 0",
		"flow start a a>b:3333", "flow change a a>b:3333 stratum", "anomaly wrong-port a a>b:3333 (speaks stratum to port 3333)")
}

func TestOversizedHead(t *testing.T) {
	w := newWorld(t)
	c := w.dial("a", 1000, "b", 80)
	c.say(0, "GET / HTTP/1.1\r\nCookie: "+strings.Repeat("x", 20000))
	same(t, w.told(), "flow start a a>b:80", "anomaly oversized-head a a>b:80 (a head of HTTP of more than 16384 bytes)")
}

func TestPortScan(t *testing.T) {
	w := newWorld(t)
	for port := range uint16(30) {
		w.send("a", w.packet("a", "b", &layers.TCP{SrcPort: 1000, DstPort: layers.TCPPort(1 + port), SYN: true}, nil))
		w.send("b", w.packet("b", "a", &layers.TCP{SrcPort: layers.TCPPort(1 + port), DstPort: 1000, RST: true, ACK: true}, nil))
	}
	got := slices.DeleteFunc(w.told(), func(s string) bool { return strings.HasPrefix(s, "flow") })
	same(t, got, "anomaly port-scan a a>b:20 (tries 20 ports of 10.0.0.2 within 1m0s)")
}

// TestDeniedIsSeen has a VM try what was not declared.
func TestDeniedIsSeen(t *testing.T) {
	w := newWorld(t, lan.Rule{From: "a", To: "b", Proto: packet.TCP, First: 80, Last: 80})
	w.dial("a", 1000, "b", 80)
	same(t, w.told(), "flow start a a>b:80")
	for range 3 {
		w.send("a", w.packet("a", "c", &layers.TCP{SrcPort: 1000, DstPort: 22, SYN: true}, nil))
	}
	w.send("b", w.packet("b", "a", &layers.TCP{SrcPort: 99, DstPort: 4444, SYN: true}, nil))
	same(t, w.told(), "anomaly lateral-movement a a>c:22 (is not declared to reach c, port 22/tcp)", "anomaly lateral-movement b b>a:4444 (is not declared to reach a, port 4444/tcp)")
	w.later(70)
	same(t, w.told(), "anomaly lateral-movement a a> (is not declared to reach c, port 22/tcp, 2 more times)")
}

func TestSpoofing(t *testing.T) {
	w := newWorld(t)
	arp := func(sender [4]byte, op uint16) []byte {
		return w.frame("a", "b", layers.EthernetTypeARP, &layers.ARP{
			AddrType: 1, Protocol: layers.EthernetTypeIPv4, HwAddressSize: 6, ProtAddressSize: 4, Operation: op,
			SourceHwAddress: []byte{2, 0, 0, 0, 0, 1}, SourceProtAddress: sender[:], DstHwAddress: []byte{2, 0, 0, 0, 0, 2}, DstProtAddress: []byte{10, 0, 0, 2},
		})
	}
	w.send("a", arp([4]byte{10, 0, 0, 1}, 2)) // its own
	same(t, w.told())
	w.send("a", arp([4]byte{10, 0, 0, 3}, 2))
	asC := w.packet("c", "b", &layers.UDP{SrcPort: 1, DstPort: 2}, nil)
	w.send("a", asC)
	copy(asC[6:], []byte{2, 0, 0, 0, 0, 1})
	w.send("a", asC)
	w.send("a", w.packet("a", "b", &layers.UDP{SrcPort: 67, DstPort: 68}, nil))
	double := w.packet("a", "b", &layers.UDP{SrcPort: 1, DstPort: 2}, nil)
	w.send("a", slices.Concat(double[:12], []byte{0x81, 0, 0, 1, 0x81, 0, 0, 2}, double[12:]))
	ra := w.frame("a", "b", layers.EthernetTypeIPv6, &layers.IPv6{Version: 6, HopLimit: 255, NextHeader: layers.IPProtocolICMPv6, SrcIP: netip.MustParseAddr("fd00::1").AsSlice(), DstIP: netip.MustParseAddr("fd00::2").AsSlice()}, gopacket.Payload(append([]byte{134, 0, 0, 0}, make([]byte, 12)...)))
	w.send("a", ra)
	var got []string
	for _, s := range w.told() {
		got = append(got, strings.Join(strings.Fields(s)[:3], " ")+s[strings.Index(s, " ("):])
	}
	same(t, got, "anomaly arp-spoofing a (says that 10.0.0.3 is at 02:00:00:00:00:01)", "anomaly mac-spoofing a (sends as 02:00:00:00:00:03)",
		"anomaly ip-spoofing a (sends as 10.0.0.3)", "anomaly dhcp-spoofing a (answers as a DHCP server)",
		"anomaly vlan-hopping a (sends with VLAN tags [1 2])", "anomaly router-spoofing a (speaks as a router)")
	if w.vms["b"].got != 1 {
		t.Errorf("%d frames were delivered", w.vms["b"].got)
	}
}

// TestNeighbours has a VM ask for the hardware addresses of its network, by ARP and by
// neighbour discovery: none of it is a conversation.
func TestNeighbours(t *testing.T) {
	w := newWorld(t)
	for n := range byte(30) {
		target := netip.AddrFrom16([16]byte{0: 0xfd, 15: n})
		ip := &layers.IPv6{Version: 6, HopLimit: 255, NextHeader: layers.IPProtocolICMPv6, SrcIP: netip.MustParseAddr("fd00::1").AsSlice(), DstIP: target.AsSlice()}
		message := &layers.ICMPv6{TypeCode: layers.CreateICMPv6TypeCode(135, 0)}
		if err := message.SetNetworkLayerForChecksum(ip); err != nil {
			t.Fatal(err)
		}
		w.send("a", w.frame("a", "b", layers.EthernetTypeIPv6, ip, message, &layers.ICMPv6NeighborSolicitation{TargetAddress: target.AsSlice()}))
	}
	same(t, w.told(), "anomaly host-scan a a> (asks for the hardware addresses of 20 hosts within 1m0s)")
	if s := w.mon.Stats(); s.Flows != 0 || s.Frames != 30 {
		t.Errorf("%+v", s)
	}
}

func TestMalformed(t *testing.T) {
	w := newWorld(t)
	p := w.packet("a", "b", &layers.TCP{SrcPort: 1, DstPort: 2, SYN: true, FIN: true}, nil)
	for range 100 {
		w.send("a", p)
	}
	w.later(70)
	same(t, w.told(), "anomaly malformed a a>b:2 (a frame with odd-flags)", "anomaly malformed a a> (a frame with odd-flags, 99 more times)")
	if s := w.mon.Stats(); s.Malformed != 100 || s.Flows != 0 {
		t.Errorf("%+v", s)
	}
}

func TestPayloadOnlyIfAskedFor(t *testing.T) {
	w := newWorld(t)
	w.dial("a", 1000, "b", 7).say(0, "first words")
	w.look = 5
	w.later(0)
	c := w.dial("a", 1001, "b", 7)
	c.say(0, "first words")
	c.say(0, "more words")
	c.say(1, "the answer")
	w.datagram("a", 1, "b", 9, []byte("datagram"))
	same(t, w.told(), "flow start a a>b:7", "flow start a a>b:7", `packet data a a>b:7 "first"`, `packet data b a>b:7 "the a"`, "flow start a a>b:9", `packet data a a>b:9 "datag"`)
}

// TestBlock has a rule stop a flow by what its first message says.
func TestBlock(t *testing.T) {
	w := newWorld(t)
	w.block = func(e event.Event) bool { return e.Net.HTTP != nil && e.Net.HTTP.Path == "/secret" }
	c := w.dial("a", 1000, "b", 80)
	before := w.vms["b"].got
	c.say(0, "GET /secret HTTP/1.1\r\n\r\n")
	c.say(0, "GET / HTTP/1.1\r\n\r\n")
	if got := w.vms["b"].got; got != before {
		t.Errorf("%d frames were delivered after the one that was stopped", got-before)
	}
	if w.dial("a", 1001, "b", 80); w.vms["b"].got != before+2 {
		t.Errorf("another flow: %d frames delivered", w.vms["b"].got-before)
	}
}

// TestFloodIsHeld has one VM cause events without end: what another does is told
// all the same, and the loss is told.
func TestFloodIsHeld(t *testing.T) {
	w := newWorld(t)
	w.at.now, w.at.step = 1, int64(time.Millisecond)/10
	for i := range 6000 {
		w.datagram("a", uint16(1024+i), "b", 9, nil)
	}
	w.send("c", w.packet("c", "b", &layers.TCP{SrcPort: 1000, DstPort: 80, SYN: true}, nil))
	w.later(1)
	told := w.told()
	// Of a 2000 at once, and in 0.6 s 300 more; each flow begins, and 2000 and more had to go.
	if n := len(told); n < 2000 || n > 2400 {
		t.Errorf("%d events", n)
	}
	for _, want := range []string{"flow start c c>b:80", "loss network a"} {
		if !slices.ContainsFunc(told, func(s string) bool { return strings.HasPrefix(s, want) }) {
			t.Errorf("not told: %s", want)
		}
	}
	s := w.mon.Stats()
	if s.Flows > 4096 || s.Evicted == 0 || s.Held == 0 {
		t.Errorf("%+v", s)
	}
}

func TestCapture(t *testing.T) {
	w := newWorld(t)
	toC, err := filter.Parse("vm c and udp port 9")
	if err != nil {
		t.Fatal(err)
	}
	tap := w.mon.Capture(toC, 40)
	w.datagram("a", 1, "b", 9, nil)
	w.datagram("a", 1, "c", 9, make([]byte, 400))
	c, err := tap.Next(t.Context())
	if err != nil || c.From != "a" || c.To != "c" || len(c.Data) != 40 || c.Len != 442 || c.VLAN != 1 || time.Since(time.Unix(0, c.Time)) > time.Hour {
		t.Errorf("%+v, %v", c, err)
	}
	for range 5000 {
		w.datagram("a", 1, "c", 9, nil)
	}
	if tap.Lost() != 5000-4096 {
		t.Errorf("%d frames lost", tap.Lost())
	}
	w.mon.Release(tap)
	for range 16 {
		if tap = w.mon.Capture(toC, 40); tap == nil {
			t.Fatal("no tap")
		}
	}
	if w.mon.Capture(toC, 40) != nil {
		t.Error("a tap too many")
	}
}

// TestSteadyStateAllocatesNothing is for the segments of a connection of which
// nothing is to be learned any more.
func TestSteadyStateAllocatesNothing(t *testing.T) {
	for name, begin := range map[string]func(w *world) []byte{
		"TLS": func(w *world) []byte {
			c := w.dial("a", 1000, "b", 443)
			c.say(0, hello(w.t, &tls.Config{ServerName: "x"}))
			return w.packet("a", "b", &layers.TCP{SrcPort: 1000, DstPort: 443, ACK: true, Seq: c.seq[0]}, make([]byte, 1400))
		},
		"the body of an answer": func(w *world) []byte {
			c := w.dial("a", 1000, "b", 80)
			c.say(0, "GET / HTTP/1.1\r\n\r\n")
			c.say(1, "HTTP/1.1 200 OK\r\nContent-Length: 100000000000\r\n\r\n")
			return w.packet("b", "a", &layers.TCP{SrcPort: 80, DstPort: 1000, ACK: true, Seq: c.seq[1]}, make([]byte, 1400))
		},
	} {
		w := newWorld(t)
		p := begin(w)
		seen := make([]lan.Seen, 1)
		f := new(net.Frame)
		f.Fill(p)
		seen[0] = lan.Seen{Frame: f, From: w.vms["a"].port, To: w.vms["c"].port, VLAN: 1, Time: 1}
		if n := testing.AllocsPerRun(100, func() { w.mon.Inspect(seen) }); n != 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
}
