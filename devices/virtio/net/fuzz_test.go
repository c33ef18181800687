package net

import (
	"bytes"
	"testing"

	"warder/devices/virtio/virtqtest"
)

// FuzzDevice drives a device by an arbitrary driver. Another guest is at the other
// end of its wire, whose device must not be harmed.
func FuzzDevice(f *testing.F) {
	h, b := packet{proto: protoTCP, payload: make([]byte, 100)}.partial()
	tcp := append(h[:], b...)
	f.Add([]byte{0, 1, 1, 40, 40: 0})
	f.Add(append([]byte{0, 0, 0, 3, 200, 200, 200, 0, 1, 1, uint8(len(tcp))}, tcp...))
	f.Add([]byte{0, 2, 2, 2, 0, 0, 1, 1, 1, 1})
	f.Fuzz(func(t *testing.T, program []byte) {
		a, z := Wire()
		other := newDevice(t, Config{Port: z, MAC: MAC{2, 0, 0, 0, 0, 9}})
		d := start(t, other, 0)
		d.offer(rx0, 4, 2000)
		dev := newDevice(t, Config{Port: a, Pairs: 2})
		virtqtest.Play(t, dev, program)

		// What comes in from the wire is bounded, and the other end still works.
		for {
			if _, ok := d.Rings[rx0].Take(); !ok {
				break
			}
		}
		d.restart(other, 0)
		d.offer(rx0, 1, 2000)
		frame := bytes.Repeat([]byte{7}, 60)
		copy(frame, []byte{2, 0, 0, 0, 0, 9})
		var fr Frame
		fr.Fill(frame)
		if _, err := other.Deliver(0, &fr, 0); err != nil {
			t.Fatal(err)
		}
		if _, got := d.received(rx0); !bytes.Equal(got, frame) {
			t.Errorf("the other guest got % x", got)
		}
	})
}
