package monitor_test

import (
	"crypto/tls"
	"fmt"
	"testing"

	"github.com/gopacket/gopacket/layers"

	"warder/devices/virtio/net"
	"warder/secmon/event"
	"warder/secmon/lan"
	"warder/secmon/lan/monitor"
)

// memory is a receiver that copies what it gets to where it has room, as a guest's
// device does.
type memory [net.MaxFrame]byte

func (*memory) Queue(*net.Frame) int { return 0 }

func (m *memory) Deliver(_ int, f *net.Frame, _ int) (int, error) {
	n := copy(m[:], f.Head)
	for _, p := range f.Body {
		n += copy(m[n:], p)
	}
	return 0, nil
}

// BenchmarkSwitch is the switch without and with the monitor, of frames in the middle of
// a flow from one VM to another. One copy of each frame is part of it.
func BenchmarkSwitch(b *testing.B) {
	for _, size := range []int{64, 1500, 65536} {
		for _, on := range []bool{false, true} {
			b.Run(fmt.Sprintf("%d/monitor=%v", size, on), func(b *testing.B) {
				w := newWorld(b)
				if !on {
					cfgs := []lan.PortConfig{w.vms["a"].cfg, w.vms["b"].cfg}
					w.sw = lan.New(lan.Config{})
					for _, c := range cfgs {
						w.plug(c)
					}
					if err := w.sw.SetRules([]lan.Rule{{From: lan.Everybody, To: lan.Everybody}}); err != nil {
						b.Fatal(err)
					}
				}
				to := w.vms["b"].port
				to.Stop()
				if err := to.Start(new(memory)); err != nil {
					b.Fatal(err)
				}
				c := w.dial("a", 1000, "b", 443)
				c.say(0, hello(b, &tls.Config{ServerName: "x"}))
				f := new(net.Frame)
				// What is to be cut may be longer than its IP header can say.
				p := w.packet("a", "b", &layers.TCP{SrcPort: 1000, DstPort: 443, ACK: true, Seq: c.seq[0]}, make([]byte, min(size, 65000)-54))
				f.Fill(append(p, make([]byte, size-len(p))...))
				if size > 1500 {
					f.GSO, f.GSOSize, f.NeedsCsum = net.TCPv4, 1448, true
				}
				from := w.vms["a"].port
				from.Send(f)
				b.SetBytes(int64(size))
				b.ReportAllocs()
				for b.Loop() {
					from.Send(f)
				}
			})
		}
	}
}

// BenchmarkMonitor is the monitor alone: a frame in the middle of a flow, the first of a
// flow, and a question of DNS, each with the events that it makes.
func BenchmarkMonitor(b *testing.B) {
	w := newWorld(b)
	m := monitor.New(monitor.Config{Sink: func(event.Event) bool { return false }})
	seen := func(p []byte) []lan.Seen {
		f := new(net.Frame)
		f.Fill(p)
		return []lan.Seen{{Frame: f, From: w.vms["a"].port, To: w.vms["b"].port, VLAN: 1, Time: 1}}
	}
	b.Run("middle", func(b *testing.B) {
		s := seen(w.packet("a", "b", &layers.ICMPv4{TypeCode: layers.CreateICMPv4TypeCode(8, 0), Id: 7}, make([]byte, 50)))
		b.ReportAllocs()
		for b.Loop() {
			m.Inspect(s)
		}
	})
	b.Run("first", func(b *testing.B) {
		s := seen(w.packet("a", "b", &layers.UDP{SrcPort: 1, DstPort: 9}, nil))
		b.ReportAllocs()
		for n := 0; b.Loop(); n++ {
			h := s[0].Frame.Head
			h[34], h[35] = byte(n>>8), byte(n)
			h[36] = byte(n >> 16)
			m.Inspect(s)
			s[0].Time += 1e7
		}
	})
	b.Run("dns", func(b *testing.B) {
		s := seen(w.packet("a", "b", &layers.UDP{SrcPort: 1, DstPort: 53}, dns(b, "www.example.org.", false)))
		b.ReportAllocs()
		for b.Loop() {
			m.Inspect(s)
			s[0].Time += 1e7
		}
	})
}
