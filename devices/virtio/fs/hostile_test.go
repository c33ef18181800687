package fs

import (
	"testing"

	"warder/devices/guestmem"
	"warder/devices/virtio"
	"warder/devices/virtio/virtqtest"
)

func TestHostile(t *testing.T) {
	share, _ := tree(t)
	virtqtest.Hostile(t, virtqtest.Subject{
		New: func(t testing.TB, _ *guestmem.Memory) virtio.Device { return newDevice(t, Config{Dir: share}) },
		Works: func(t testing.TB, d *virtqtest.Driver) {
			driver{d, t}.start()
		},
	})
}
