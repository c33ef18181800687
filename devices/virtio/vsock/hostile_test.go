package vsock

import (
	"testing"

	"warder/devices/guestmem"
	"warder/devices/virtio"
	"warder/devices/virtio/virtqtest"
)

func TestHostile(t *testing.T) {
	virtqtest.Hostile(t, virtqtest.Subject{
		New: func(t testing.TB, _ *guestmem.Memory) virtio.Device { return newDevice(t, Config{}) },
		Wake: func(t testing.TB, dev virtio.Device) {
			d := dev.(*Device)
			d.ResetTransport()
			go d.Dial(t.Context(), 9) // ends with the driver, if there is one
		},
		Works: func(t testing.TB, d *virtqtest.Driver) {
			dr := driver{d, t}
			dr.start()
			dr.send(header{SrcCID: testCID, DstCID: HostCID, SrcPort: 1, DstPort: 2, Type: typeStream, Op: OpRequest}, "")
			for { // a Dial of Wake's may come as late as this
				if h, _ := dr.take(); h.Op != OpRequest {
					if h.Op != OpReset {
						t.Fatalf("packet %+v", h)
					}
					break
				}
			}
		},
	})
}
