package console_test

import (
	"io"
	"testing"

	"warder/devices/guestmem"
	"warder/devices/virtio"
	"warder/devices/virtio/console"
	"warder/devices/virtio/virtqtest"
)

// remote is a program at a port that sends without end and reads all.
type remote struct{ chatter }

func (remote) Write(p []byte) (int, error) { return len(p), nil }
func (remote) Close() error                { return nil }

var _ io.ReadWriteCloser = remote{}

// TestHostilePorts has a driver that has said of no port that it is open: the device
// holds one buffer of each of those, and looks no further.
func TestHostilePorts(t *testing.T) {
	virtqtest.Hostile(t, virtqtest.Subject{
		New: func(t testing.TB, _ *guestmem.Memory) virtio.Device {
			dev, err := console.NewMultiport(console.PortConfig{Name: "a", Terminal: true}, console.PortConfig{Name: "b"})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { dev.Close() })
			for _, name := range []string{"a", "b"} {
				if _, err := dev.Port(name).Connect(remote{}); err != nil {
					t.Fatal(err)
				}
			}
			return dev
		},
		Works: func(t testing.TB, d *virtqtest.Driver) {
			d.Rings[receive].Add(virtqtest.Buffer{Room: 5})
			if a := d.Answer(receive); a.Written == 0 {
				t.Error("nothing comes from the first port")
			}
			d.Rings[transmit].Add(virtqtest.Buffer{Data: []byte("the end")})
			d.Answer(transmit)
		},
		Unused: []int{toldQueue},
	})
}
