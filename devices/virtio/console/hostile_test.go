package console_test

import (
	"io"
	"testing"

	"warder/devices/guestmem"
	"warder/devices/virtio"
	"warder/devices/virtio/console"
	"warder/devices/virtio/virtqtest"
)

// chatter is a person who types without end.
type chatter struct{}

func (chatter) Read(p []byte) (int, error) { return copy(p, "blah "), nil }

func TestHostile(t *testing.T) {
	virtqtest.Hostile(t, virtqtest.Subject{
		New: func(t testing.TB, _ *guestmem.Memory) virtio.Device {
			dev := console.New(chatter{}, io.Discard)
			t.Cleanup(func() { dev.Close() })
			return dev
		},
		Works: func(t testing.TB, d *virtqtest.Driver) {
			d.Rings[receive].Add(virtqtest.Buffer{Room: 5})
			if a := d.Answer(receive); a.Written == 0 {
				t.Error("it types nothing")
			}
			d.Rings[transmit].Add(virtqtest.Buffer{Data: []byte("the end")})
			d.Answer(transmit)
		},
	})
}
