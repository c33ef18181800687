package monitor_test

import (
	"bytes"
	"fmt"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"

	"warder/devices/virtio/net"
	"warder/secmon/event"
	"warder/secmon/lan"
	"warder/secmon/lan/monitor"
)

// world is a switch with VMs a, b, c in VLAN 1, and its monitor.
type world struct {
	t   testing.TB
	sw  *lan.Switch
	mon *monitor.Monitor
	at  *stretched // the monitor's time
	vms map[string]*vm

	mu     sync.Mutex
	events []event.Event
	block  func(event.Event) bool
	look   int // bytes of messages
}

// vm is what is plugged into a port: it counts what it gets.
type vm struct {
	port *lan.Port
	cfg  lan.PortConfig
	mu   sync.Mutex
	got  int
}

func (*vm) Queue(*net.Frame) int { return 0 }

func (v *vm) Deliver(_ int, f *net.Frame, _ int) (int, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.got++
	return 0, nil
}

// stretched is a monitor to which frames come so many nanoseconds one after the other. Its
// zero value leaves the time as it is.
type stretched struct {
	*monitor.Monitor
	now, step int64
}

func (s *stretched) Inspect(frames []lan.Seen) {
	if s.now > 0 {
		s.now += s.step
		frames[0].Time = s.now
	}
	s.Monitor.Inspect(frames)
}

func newWorld(t testing.TB, rules ...lan.Rule) *world {
	t.Helper()
	w := &world{t: t, vms: make(map[string]*vm)}
	w.mon = monitor.New(monitor.Config{Sink: w.take, Message: func() int { return w.look }})
	w.at = &stretched{Monitor: w.mon}
	w.sw = lan.New(lan.Config{Inspector: w.at, Flows: 4096})
	for i, name := range []string{"a", "b", "c"} {
		n := byte(i + 1)
		w.plug(lan.PortConfig{Name: name, VLAN: 1, MAC: net.MAC{2, 0, 0, 0, 0, n}, Addresses: []netip.Addr{netip.AddrFrom4([4]byte{10, 0, 0, n}), netip.AddrFrom16([16]byte{0: 0xfd, 15: n})}})
	}
	if rules == nil {
		rules = []lan.Rule{{From: lan.Everybody, To: lan.Everybody}}
	}
	if err := w.sw.SetRules(rules); err != nil {
		t.Fatal(err)
	}
	return w
}

func (w *world) plug(cfg lan.PortConfig) *vm {
	w.t.Helper()
	p, err := w.sw.AddPort(cfg)
	if err != nil {
		w.t.Fatal(err)
	}
	v := &vm{port: p, cfg: cfg}
	if err := p.Start(v); err != nil {
		w.t.Fatal(err)
	}
	w.vms[cfg.Name] = v
	return v
}

func (w *world) take(e event.Event) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.events = append(w.events, e)
	return w.block != nil && w.block(e)
}

// told are the events since the last call, one line each.
func (w *world) told() (lines []string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for i := range w.events {
		lines = append(lines, line(&w.events[i]))
	}
	w.events = nil
	return lines
}

// line is what a test looks at of an event.
func line(e *event.Event) string {
	s := fmt.Sprintf("%s %s %s", e.Kind, e.Action, e.VM)
	if n := e.Net; n != nil {
		s += fmt.Sprintf(" %s>%s", n.SourceVM, n.DestinationVM)
		if n.Destination.Port() != 0 {
			s += fmt.Sprintf(":%d", n.Destination.Port())
		}
		if n.Application != "" && e.Kind != event.Anomaly {
			s += " " + n.Application
		}
		if d := n.DNS; d != nil {
			s += fmt.Sprintf(" %s %s %s%v", d.Type, d.Name, d.Code, d.Answers)
		}
		if h := n.HTTP; h != nil {
			s += fmt.Sprintf(" %s %s %s %d", h.Method, h.Host, h.Path, h.Status)
		}
		if t := n.TLS; t != nil {
			s += fmt.Sprintf(" %s %v", t.ServerName, t.ALPN)
		}
		if len(n.Payload) > 0 {
			s += fmt.Sprintf(" %q", n.Payload)
		}
	}
	if e.Message != "" {
		s += " (" + e.Message + ")"
	}
	return s
}

// send sends a frame from a VM.
func (w *world) send(from string, p []byte) {
	f := new(net.Frame)
	f.Fill(p)
	w.vms[from].port.Send(f)
}

// frame puts layers behind an Ethernet header from one VM to another.
func (w *world) frame(from, to string, kind layers.EthernetType, parts ...gopacket.SerializableLayer) []byte {
	src, dst := w.vms[from].cfg.MAC, w.vms[to].cfg.MAC
	e := &layers.Ethernet{SrcMAC: src[:], DstMAC: dst[:], EthernetType: kind}
	b := gopacket.NewSerializeBuffer()
	if err := gopacket.SerializeLayers(b, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}, append([]gopacket.SerializableLayer{e}, parts...)...); err != nil {
		w.t.Fatal(err)
	}
	return bytes.Clone(b.Bytes())
}

// packet is an IPv4 packet from one VM to another.
func (w *world) packet(from, to string, transport gopacket.SerializableLayer, payload []byte) []byte {
	ip := &layers.IPv4{Version: 4, TTL: 64, SrcIP: w.vms[from].cfg.Addresses[0].AsSlice(), DstIP: w.vms[to].cfg.Addresses[0].AsSlice()}
	switch l := transport.(type) {
	case *layers.TCP:
		ip.Protocol = layers.IPProtocolTCP
		l.SetNetworkLayerForChecksum(ip)
	case *layers.UDP:
		ip.Protocol = layers.IPProtocolUDP
		l.SetNetworkLayerForChecksum(ip)
	case *layers.ICMPv4:
		ip.Protocol = layers.IPProtocolICMPv4
	}
	return w.frame(from, to, layers.EthernetTypeIPv4, ip, transport, gopacket.Payload(payload))
}

// datagram sends a datagram of UDP.
func (w *world) datagram(from string, fromPort uint16, to string, toPort uint16, p []byte) {
	w.send(from, w.packet(from, to, &layers.UDP{SrcPort: layers.UDPPort(fromPort), DstPort: layers.UDPPort(toPort)}, p))
}

// conn is a connection of TCP between two VMs.
type conn struct {
	w     *world
	ends  [2]string
	ports [2]uint16
	seq   [2]uint32
	mss   int
}

func (w *world) dial(from string, fromPort uint16, to string, toPort uint16) *conn {
	c := &conn{w: w, ends: [2]string{from, to}, ports: [2]uint16{fromPort, toPort}, seq: [2]uint32{1<<32 - 5, 70000}, mss: 1000}
	c.segment(0, &layers.TCP{SYN: true}, nil)
	c.seq[0]++
	c.segment(1, &layers.TCP{SYN: true, ACK: true}, nil)
	c.seq[1]++
	c.segment(0, &layers.TCP{ACK: true}, nil)
	return c
}

func (c *conn) segment(side int, flags *layers.TCP, p []byte) {
	flags.SrcPort, flags.DstPort = layers.TCPPort(c.ports[side]), layers.TCPPort(c.ports[1-side])
	flags.Seq, flags.Ack, flags.Window = c.seq[side], c.seq[1-side], 65535
	c.w.send(c.ends[side], c.w.packet(c.ends[side], c.ends[1-side], flags, p))
}

// say sends bytes, in segments.
func (c *conn) say(side int, s string) {
	for len(s) > 0 {
		n := min(len(s), c.mss)
		c.segment(side, &layers.TCP{ACK: true, PSH: true}, []byte(s[:n]))
		c.seq[side] += uint32(n)
		s = s[n:]
	}
}

func (c *conn) close() {
	for side := range 2 {
		c.segment(side, &layers.TCP{ACK: true, FIN: true}, nil)
		c.seq[side]++
	}
	c.segment(0, &layers.TCP{ACK: true}, nil)
}

// later has a monitor's time be some seconds on.
func (w *world) later(seconds int64) {
	w.mon.Advance(time.Now().UnixNano() + seconds*int64(time.Second))
}
