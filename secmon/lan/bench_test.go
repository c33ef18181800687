package lan

import (
	"fmt"
	"sync"
	"testing"

	"warder/devices/virtio/net"
	"warder/secmon/lan/packet"
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

// BenchmarkSwitch is the switch alone: every port sends to the next, all at once, with
// a rule for each pair. One copy of each frame is part of it.
func BenchmarkSwitch(b *testing.B) {
	for _, size := range []int{64, 1500, 65536} {
		for _, ports := range []int{2, 8, 64} {
			b.Run(fmt.Sprintf("%d/ports=%d", size, ports), func(b *testing.B) { benchmark(b, Config{}, size, ports) })
		}
	}
}

// BenchmarkInspected is the same with an inspector that looks at nothing.
func BenchmarkInspected(b *testing.B) {
	cfg := Config{Inspector: inspect(func(*Seen) {})}
	for _, size := range []int{64, 1500, 65536} {
		b.Run(fmt.Sprintf("%d/ports=%d", size, 8), func(b *testing.B) { benchmark(b, cfg, size, 8) })
	}
}

func benchmark(b *testing.B, cfg Config, size, ports int) {
	s := New(cfg)
	var rules []Rule
	var frames []*net.Frame
	var from []*Port
	for n := range byte(ports) {
		g := plug(b, s, n+1)
		if err := g.port.Start(new(memory)); err != nil {
			b.Fatal(err)
		}
		next := (n+1)%byte(ports) + 1
		rules = append(rules, Rule{From: fmt.Sprintf("vm%d", n+1), To: fmt.Sprintf("vm%d", next), Proto: packet.TCP, First: 80, Last: 80})
		f := new(net.Frame)
		payload := size - etherHeader - ipv4Header - 20
		f.Fill(between(n+1, next, packet.TCP, tcp(1000, 80, packet.ACK, make([]byte, payload)...)))
		frames, from = append(frames, f), append(from, g.port)
	}
	allow(b, s, rules...)
	for i, p := range from { // what is made once is
		p.Send(frames[i])
	}
	b.SetBytes(int64(size))
	b.ReportAllocs()
	b.ResetTimer()
	var all sync.WaitGroup
	for i, p := range from {
		n := b.N / ports
		if i < b.N%ports {
			n++
		}
		all.Go(func() {
			for range n {
				p.Send(frames[i])
			}
		})
	}
	all.Wait()
	b.StopTimer()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "frames/s")
	for _, p := range from {
		if st := p.Stats(); len(st.Lost) > 0 {
			b.Fatalf("%s: %v", p.Name(), st.Lost)
		}
	}
}

// TestNothingIsAllocated is what the benchmark shows, as a test: also for frames that
// wait, and with a tag.
func TestNothingIsAllocated(t *testing.T) {
	s := New(Config{Inspector: inspect(func(*Seen) {})})
	a, b, r := plug(t, s, 1), plug(t, s, 2), plug(t, s, 3, trunk(1))
	allow(t, s, everything)
	sinks := []*guest{b, r}
	var m memory
	for _, g := range sinks {
		if err := g.port.Start(&m); err != nil {
			t.Fatal(err)
		}
	}
	var f, tagged net.Frame
	f.Fill(between(1, 2, packet.TCP, tcp(1000, 80, packet.ACK, make([]byte, 1000)...)))
	tagged.Fill(between(1, 3, packet.TCP, tcp(1000, 80, packet.ACK, make([]byte, 1000)...)))
	if n := testing.AllocsPerRun(1000, func() { a.port.Send(&f); a.port.Send(&tagged) }); n != 0 {
		t.Errorf("%v allocations for two frames", n)
	}
	full := &guest{port: b.port}
	if err := b.port.Start(full); err != nil {
		t.Fatal(err)
	}
	if n := testing.AllocsPerRun(1000, func() {
		for range laneFrames / 2 {
			a.port.Send(&f)
		}
		b.port.lines[0].to = &m
		b.port.Ready(0)
		b.port.lines[0].to = full
	}); n != 0 {
		t.Errorf("%v allocations for frames that wait", n)
	}
}
