package net

import (
	"bytes"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestBothWays(t *testing.T) {
	for _, c := range []struct {
		name    string
		without uint64
		buffer  int
	}{
		{"one large buffer", featureMergeable, 65600},
		{"mergeable buffers", 0, 1526},
		{"tiny ones", 0, 100},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := newPort()
			dev := newDevice(t, Config{Port: p, MTU: 9000})
			d := start(t, dev, c.without)
			for _, size := range []int{14, 60, HeadSize - 1, HeadSize, HeadSize + 1, 1514, 3000} {
				frame := bytes.Repeat([]byte{0x5a, byte(size), 3}, size/3+1)[:size]
				copy(frame, testMAC[:])

				// Out, in pieces that do not end where the head does.
				d.send(tx0, [HeaderSize]byte{}, frame[:7], frame[7:size/2], frame[size/2:])
				got := p.sent()
				if len(got) != 1 || !bytes.Equal(content(&got[0]), frame) || got[0].Len != size || got[0].Offload != (Offload{}) {
					t.Fatalf("%d bytes were sent as %+v", size, got)
				}

				// In, again in pieces.
				d.offer(rx0, (size+HeaderSize)/c.buffer+1, c.buffer)
				var f Frame
				f.Fill(frame[:5], frame[5:size/2], nil, frame[size/2:])
				if part, err := dev.Deliver(0, &f, 0); part != 0 || err != nil {
					t.Fatal(part, err)
				}
				h, back := d.received(rx0)
				if diff := cmp.Diff(frame, back); diff != "" {
					t.Errorf("%d bytes: %s", size, diff)
				}
				if want := (&Offload{}).Header((size + HeaderSize + c.buffer - 1) / c.buffer); h != want {
					t.Errorf("header % x, want % x", h, want)
				}
			}
			s := dev.Stats()
			if s.Sent != 7 || s.Received != 7 || s.SentBytes != s.ReceivedBytes || s.SentBytes == 0 {
				t.Errorf("%+v", s)
			}
		})
	}
}
