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

// BenchmarkMessages is the switch with the monitor for frames that it learns something
// from: the first of a flow, and a question of DNS, each with the events that it makes.
func BenchmarkMessages(b *testing.B) {
	w := newWorld(b)
	watch := &stretched{Monitor: monitor.New(monitor.Config{Sink: func(event.Event) bool { return false }}), now: 1, step: 1e7}
	w.sw = lan.New(lan.Config{Inspector: watch, Flows: 4096})
	for _, name := range []string{"a", "b"} {
		w.plug(w.vms[name].cfg)
	}
	if err := w.sw.SetRules([]lan.Rule{{From: lan.Everybody, To: lan.Everybody}}); err != nil {
		b.Fatal(err)
	}
	f := new(net.Frame)
	b.Run("first", func(b *testing.B) {
		f.Fill(w.packet("a", "b", &layers.UDP{SrcPort: 1, DstPort: 9}, nil))
		b.ReportAllocs()
		for n := 0; b.Loop(); n++ {
			f.Head[34], f.Head[35], f.Head[36] = byte(n>>8), byte(n), byte(n>>16)
			w.vms["a"].port.Send(f)
		}
	})
	b.Run("dns", func(b *testing.B) {
		f.Fill(w.packet("a", "b", &layers.UDP{SrcPort: 1, DstPort: 53}, dns(b, "www.example.org.", false)))
		b.ReportAllocs()
		for b.Loop() {
			w.vms["a"].port.Send(f)
		}
	})
}
