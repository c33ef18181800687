package balloon_test

import (
	"testing"

	"warder/devices/guestmem"
	"warder/devices/virtio"
	"warder/devices/virtio/balloon"
	"warder/devices/virtio/virtqtest"
)

func TestHostile(t *testing.T) {
	virtqtest.Hostile(t, virtqtest.Subject{
		New:    func(_ testing.TB, mem *guestmem.Memory) virtio.Device { return balloon.New(mem) },
		Unused: []int{4}, // without FREE_PAGE_HINT, reports come in queue 3
		Works: func(t testing.TB, d *virtqtest.Driver) {
			d.Rings[0].Add(virtqtest.Buffer{Data: pages(1 << 30)})
			d.Answer(0)
		},
	})
}
