package monitor_test

import (
	"crypto/tls"
	"fmt"
	"sync"
	"testing"

	"github.com/gopacket/gopacket/layers"

	"warder/devices/virtio/net"
	"warder/secmon/event"
	"warder/secmon/lan"
	"warder/secmon/lan/monitor"
)

// FuzzMonitor has frames of any bytes seen, cut from the input as its first bytes
// say, with a body that begins anywhere. Nothing may be held when all flows are over.
func FuzzMonitor(f *testing.F) {
	w := newWorld(f)
	add := func(frames ...[]byte) {
		var all []byte
		for i, p := range frames {
			all = append(all, byte(i), byte(len(p)>>8), byte(len(p)))
			all = append(all, p...)
		}
		f.Add(all)
	}
	seq := uint32(100)
	tcp := func(flags layers.TCP, payload string) []byte {
		flags.SrcPort, flags.DstPort, flags.Seq = 40000, 80, seq
		seq += uint32(len(payload))
		return w.packet("a", "b", &flags, []byte(payload))
	}
	add(tcp(layers.TCP{SYN: true}, ""), tcp(layers.TCP{ACK: true}, "xGET / HTTP/1.1\r\nHost: x\r\n"), tcp(layers.TCP{ACK: true}, "\r\n"), tcp(layers.TCP{ACK: true, RST: true}, ""))
	add(w.packet("a", "b", &layers.UDP{SrcPort: 1, DstPort: 53}, dns(f, "a.b.", false)), w.packet("b", "a", &layers.UDP{SrcPort: 53, DstPort: 1}, dns(f, "a.b.", true)))
	add(tcp(layers.TCP{ACK: true}, hello(f, &tls.Config{ServerName: "x"})))
	f.Fuzz(func(t *testing.T, p []byte) {
		events := 0
		m := monitor.New(monitor.Config{
			Message: func() int { return 16 },
			Sink: func(e event.Event) bool {
				if _, err := e.MarshalJSON(); err != nil {
					t.Fatal(err)
				}
				events++
				return false
			},
		})
		watch := &stretched{Monitor: m, now: 1}
		sw := lan.New(lan.Config{Inspector: watch, Flows: 64})
		a, err := sw.AddPort(w.vms["a"].cfg)
		if err != nil {
			t.Fatal(err)
		}
		// What the one may not send, because it speaks for others, the other may.
		outside, err := sw.AddPort(lan.PortConfig{Name: "outside", VLAN: 1, Uplink: true})
		if err == nil {
			err = sw.SetRules([]lan.Rule{{From: lan.Everybody, To: lan.Everybody}})
		}
		if err != nil {
			t.Fatal(err)
		}
		for len(p) >= 3 {
			how, size := p[0], int(p[1])<<8|int(p[2])
			p = p[3:]
			size = min(size, len(p))
			frame := new(net.Frame)
			frame.Fill(p[:size])
			p = p[size:]
			if how&4 != 0 {
				frame.GSO, frame.GSOSize = net.TCPv4, 100
			}
			watch.step = int64(how) << 24
			if how&1 != 0 {
				outside.Send(frame)
			} else {
				a.Send(frame)
			}
		}
		m.Advance(1 << 62)
		if s := m.Stats(); s.Flows != 0 || s.Unread != 0 {
			t.Fatalf("%+v", s)
		}
	})
}

// TestManyAtOnce has VMs talk at once while somebody looks.
func TestManyAtOnce(t *testing.T) {
	w := newWorld(t)
	const each = 200
	var all sync.WaitGroup
	frames := make(map[string][][]byte)
	for i, from := range []string{"a", "b", "c"} {
		to := []string{"b", "c", "a"}[i]
		for n := range each {
			frames[from] = append(frames[from], w.packet(from, to, &layers.UDP{SrcPort: layers.UDPPort(1000 + n%7), DstPort: 53}, dns(t, fmt.Sprintf("n%d.x.", n), false)))
		}
	}
	for from, list := range frames {
		all.Go(func() {
			for _, p := range list {
				w.send(from, p)
			}
		})
	}
	all.Go(func() {
		for range 20 {
			w.mon.Flows()
			w.mon.Advance(0)
			w.mon.Stats()
		}
	})
	all.Wait()
	packets := uint64(0)
	for _, f := range w.mon.Flows() {
		packets += f.Packets[0] + f.Packets[1]
	}
	if s := w.mon.Stats(); packets != 3*each || s.Frames != 3*each || s.Flows != 21 {
		t.Errorf("%d packets, %+v", packets, s)
	}
}
