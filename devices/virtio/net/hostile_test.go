package net

import (
	"testing"

	"warder/devices/guestmem"
	"warder/devices/virtio"
	"warder/devices/virtio/virtqtest"
)

func TestHostile(t *testing.T) {
	for name, pairs := range map[string]int{"one pair": 1, "two pairs": 2} {
		t.Run(name, func(t *testing.T) {
			virtqtest.Hostile(t, virtqtest.Subject{
				New: func(t testing.TB, _ *guestmem.Memory) virtio.Device {
					a, _ := Wire()
					return newDevice(t, Config{Port: a, Pairs: pairs})
				},
				Wake: func(t testing.TB, dev virtio.Device) {
					var f Frame
					f.Fill(make([]byte, 60))
					for i := range pairs {
						dev.(*Device).pairs.Store(int32(pairs)) // as the driver would by a command
						_, _ = dev.(*Device).Deliver(i, &f, 0)
					}
				},
				Works: func(t testing.TB, d *virtqtest.Driver) {
					driver{d, t}.send(tx0, [HeaderSize]byte{}, make([]byte, 60))
				},
			})
		})
	}
}
