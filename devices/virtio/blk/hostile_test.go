package blk_test

import (
	"testing"

	"warder/devices/guestmem"
	"warder/devices/virtio"
	"warder/devices/virtio/blk"
	"warder/devices/virtio/virtqtest"
)

func TestHostile(t *testing.T) {
	virtqtest.Hostile(t, virtqtest.Subject{
		New: func(testing.TB, *guestmem.Memory) virtio.Device {
			return blk.New(blk.Config{Disk: droppable{make(memory, 64<<10), false}, Queues: 2, Log: quiet})
		},
		Works: func(t testing.TB, d *virtqtest.Driver) {
			if s, _, n := request(d, in, 127, nil, 512); s != ok || n != 513 {
				t.Errorf("a read has status %d, %d bytes", s, n)
			}
		},
	})
}
