package rng_test

import (
	"crypto/rand"
	"testing"

	"warder/devices/guestmem"
	"warder/devices/virtio"
	"warder/devices/virtio/rng"
	"warder/devices/virtio/virtqtest"
)

func TestHostile(t *testing.T) {
	virtqtest.Hostile(t, virtqtest.Subject{
		New: func(testing.TB, *guestmem.Memory) virtio.Device { return rng.New(rand.Reader) },
		Works: func(t testing.TB, d *virtqtest.Driver) {
			d.Rings[0].Add(virtqtest.Buffer{Room: 16})
			if a := d.Answer(0); a.Written != 16 {
				t.Errorf("it gives %d bytes", a.Written)
			}
		},
	})
}
