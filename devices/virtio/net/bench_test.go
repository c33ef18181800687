package net

import (
	"fmt"
	"testing"

	"warder/devices/virtio/virtqtest"
)

// BenchmarkWire is the way of a frame from one guest's memory to another's, through
// two devices and the wire between them. The drivers' part of it is a few atomic
// stores. Both have all their buffers with the device, so that it is never the
// drivers that are waited for: what is measured is the devices' pace.
func BenchmarkWire(b *testing.B) {
	for _, size := range []int{64, 1500, 65536} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			x, y := Wire()
			from, to := newDevice(b, Config{Port: x, MAC: MAC{2, 9}, MTU: 1500}), newDevice(b, Config{Port: y})
			sender, receiver := start(b, from, 0), start(b, to, 0)

			p := packet{proto: protoTCP, payload: bulk(max(size-54, 10))}
			h, frame := p.partial()
			if size > 1514 {
				h, frame = gsoHeader(p, TCPv4, 1448)
			}
			const room = 4096
			perFrame := (len(frame)+HeaderSize)/room + 1
			tx := virtqtest.NewPump(sender.Driver, tx0, []virtqtest.Buffer{{Data: h[:]}, {Data: frame}})
			rx := virtqtest.NewPump(receiver.Driver, rx0, []virtqtest.Buffer{{Room: room}})
			rx.Fill()
			b.SetBytes(int64(len(frame)))
			b.ReportAllocs()
			b.ResetTimer()
			for sent, got := 0, 0; got < b.N*perFrame; {
				if sent < b.N {
					sent += tx.Add(b.N - sent)
				}
				got += rx.Take()
				rx.Fill()
				tx.Take()
			}
			b.StopTimer()
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "frames/s")
			if s := to.Stats(); s.Received != uint64(b.N) {
				b.Errorf("%+v after %d frames", s, b.N)
			}
		})
	}
}
