package console

import (
	"testing"

	"warder/devices/guestmem"
	"warder/devices/virtio"
	"warder/devices/virtio/virtqtest"
)

func TestHostileMultiport(t *testing.T) {
	virtqtest.Hostile(t, virtqtest.Subject{
		New: func(t testing.TB, _ *guestmem.Memory) virtio.Device {
			dev, err := NewMultiport(PortConfig{Name: "tty", Terminal: true}, PortConfig{Name: "data"})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { dev.Close() })
			return dev
		},
		Wake: func(_ testing.TB, dev virtio.Device) {
			for _, p := range dev.(*Multiport).ports {
				p.owe(owedName) // as if the driver had just found it
			}
		},
		Works: func(t testing.TB, d *virtqtest.Driver) {
			d.Rings[transmitQueue].Add(virtqtest.Buffer{Data: []byte("the end")})
			d.Answer(transmitQueue)
		},
	})
}
