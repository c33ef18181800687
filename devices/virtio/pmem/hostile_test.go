package pmem_test

import (
	"testing"

	"warder/devices/guestmem"
	"warder/devices/virtio"
	"warder/devices/virtio/pmem"
	"warder/devices/virtio/virtqtest"
)

func TestHostile(t *testing.T) {
	virtqtest.Hostile(t, virtqtest.Subject{
		New: func(testing.TB, *guestmem.Memory) virtio.Device {
			return pmem.New(pmem.Config{Sync: func() error { return nil }, Log: quiet})
		},
		Works: func(t testing.TB, d *virtqtest.Driver) {
			if got := ask(d, 0); got != 0 {
				t.Errorf("flush: %#x", got)
			}
		},
	})
}
