package monitor_test

import (
	"crypto/tls"
	"encoding/binary"
	"fmt"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/gopacket/gopacket/layers"
	"golang.org/x/sys/unix"

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

// cpuTime is what the calling thread has used.
func cpuTime(b *testing.B) time.Duration {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &ts); err != nil {
		b.Fatal(err)
	}
	return time.Duration(ts.Nano())
}

// inFlow is the way from VM a to VM b through a switch, with the monitor or without, and a
// frame of size bytes in the middle of a flow, or of a body of HTTP.
func inFlow(b *testing.B, size int, on, http bool) (from *lan.Port, f *net.Frame) {
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
	port := uint16(443)
	if http {
		port = 80
	}
	c := w.dial("a", 1000, "b", port)
	if http {
		c.say(0, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000000000\r\n\r\n")
	} else {
		c.say(0, hello(b, &tls.Config{ServerName: "x"}))
	}
	f = new(net.Frame)
	// What is to be cut may be longer than its IP header can say.
	p := w.packet("a", "b", &layers.TCP{SrcPort: 1000, DstPort: layers.TCPPort(port), ACK: true, Seq: c.seq[0]}, make([]byte, min(size, 65000)-54))
	f.Fill(append(p, make([]byte, size-len(p))...))
	if size > 1500 {
		f.GSO, f.GSOSize, f.NeedsCsum = net.TCPv4, 1448, true
	}
	from = w.vms["a"].port
	from.Send(f)
	return from, f
}

// BenchmarkSwitch is what the monitor costs a frame in the middle of a flow, beside the
// switch with its one copy of the frame. Both take turns of about a millisecond, and what
// counts is the thread's CPU time in the middle one of all turns: other work on the
// machine falls on both alike.
func BenchmarkSwitch(b *testing.B) {
	for _, c := range []struct {
		size int
		http bool
	}{{64, false}, {1500, false}, {65536, false}, {1500, true}} {
		size := c.size
		b.Run(fmt.Sprintf("%d/http=%v", size, c.http), func(b *testing.B) {
			runtime.LockOSThread()
			defer runtime.UnlockOSThread()
			var took [2][]float64
			var ports [2]*lan.Port
			var frames [2]*net.Frame
			for i, on := range []bool{false, true} {
				ports[i], frames[i] = inFlow(b, size, on, c.http)
			}
			turn := min(4000, 32<<20/size)
			const headers, seqAt = 54, 38
			seq := [2]uint32{binary.BigEndian.Uint32(frames[0].Head[seqAt:]), binary.BigEndian.Uint32(frames[1].Head[seqAt:])}
			b.ReportAllocs()
			b.ResetTimer()
			for n := 0; n < b.N; n += 2 * turn {
				for i := range took {
					began := cpuTime(b)
					for range turn {
						if c.http { // what comes twice is not looked at
							seq[i] += uint32(size - headers)
							binary.BigEndian.PutUint32(frames[i].Head[seqAt:], seq[i])
						}
						ports[i].Send(frames[i])
					}
					took[i] = append(took[i], float64(cpuTime(b)-began)/float64(turn))
				}
			}
			b.StopTimer()
			var middle [2]float64
			for i := range took {
				slices.Sort(took[i])
				middle[i] = took[i][len(took[i])/2]
			}
			b.ReportMetric(0, "ns/op") // by the clock, of both
			b.ReportMetric(middle[0], "without-cpu-ns")
			b.ReportMetric(middle[1], "with-cpu-ns")
			b.ReportMetric(100*(middle[1]-middle[0])/middle[0], "%-more")
		})
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
