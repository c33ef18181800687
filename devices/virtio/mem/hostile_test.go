package mem_test

import (
	"testing"

	"warder/devices/guestmem"
	"warder/devices/virtio"
	"warder/devices/virtio/virtqtest"
)

func TestHostile(t *testing.T) {
	virtqtest.Hostile(t, virtqtest.Subject{
		New: func(t testing.TB, _ *guestmem.Memory) virtio.Device {
			dev, _ := newDevice(t)
			return dev
		},
		Works: func(t testing.TB, d *virtqtest.Driver) {
			if got, _ := ask(t, d, state, base, 1); got != ack {
				t.Errorf("answer %d", got)
			}
		},
	})
}
