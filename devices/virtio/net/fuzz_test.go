package net

import (
	"bytes"
	"encoding/binary"
	"runtime"
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

// FuzzFrame has a guest send any frame behind any header to another, which takes as
// little as the first byte says. What that one gets is right by itself: checksums and
// segments only as it agreed to, in frames that its MTU lets through.
func FuzzFrame(f *testing.F) {
	f.Fuzz(func(t *testing.T, refuses uint8, b []byte) {
		b = b[:min(len(b), 40<<10)]
		a, z := Wire()
		from, to := newDevice(t, Config{Port: a, MAC: MAC{2, 9}}), newDevice(t, Config{Port: z})
		var without uint64
		for i, g := range guestOffloads {
			if refuses>>i&1 != 0 {
				without |= g.feature
			}
		}
		sender, receiver := start(t, from, 0), start(t, to, without)
		receiver.offer(rx0, 12, 4096) // enough for any frame
		sender.Rings[tx0].Add(buffers(b)...)
		sender.Kick(tx0)
		takes := takes(to.Info().Features &^ without)
		for done := false; !done; {
			if _, ok := sender.Rings[tx0].Take(); ok {
				done = true
			}
			for {
				answer, ok := receiver.Rings[rx0].Take()
				if !ok {
					break
				}
				if binary.LittleEndian.Uint16(answer.Room[offNumBuffers:]) == 1 {
					checkReceived(t, answer.Room[:answer.Written], takes)
				}
				receiver.offer(rx0, 1, 4096)
			}
			runtime.Gosched()
		}
		if s := from.Stats(); s.Malformed+s.Sent != 1 {
			t.Errorf("%+v", s)
		}
	})
}

// checkReceived checks a frame that came in one buffer.
func checkReceived(t *testing.T, b []byte, takes Offloads) {
	t.Helper()
	var f Frame
	f.Fill(b[HeaderSize:])
	h := [HeaderSize]byte(b)
	if err := f.SetHeader(&h, takes, defaultMTU); err != nil {
		t.Fatalf("the guest got what it did not agree to (%#x): %v, % x", takes, err, b[:min(len(b), 100)])
	}
}
