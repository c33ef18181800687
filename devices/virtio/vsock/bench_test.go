package vsock

import (
	"context"
	"io"
	"net"
	"testing"
)

// BenchmarkStream is the way of 64 KiB through two devices back to back, in packets
// of 4 KiB.
func BenchmarkStream(b *testing.B) {
	x, y := newDevice(b, Config{}), newDevice(b, Config{})
	ctx, cancel := context.WithCancel(b.Context())
	wait := join(ctx, x, y)
	defer func() { cancel(); wait() }()
	l, err := y.Listen(7)
	if err != nil {
		b.Fatal(err)
	}
	c, err := x.Dial(ctx, 7)
	if err != nil {
		b.Fatal(err)
	}
	defer c.Close()
	go io.Copy(io.Discard, accept(b, l))
	block := make([]byte, 64<<10)
	b.SetBytes(int64(len(block)))
	for b.Loop() {
		if _, err := c.Write(block); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkToSocket is the way of a packet of 64 KiB, as Linux sends them, to a program
// at a Unix socket, as far as the guest's credit goes.
func BenchmarkToSocket(b *testing.B) {
	dir := b.TempDir()
	d := newDevice(b, Config{Dir: dir})
	l, err := net.Listen("unix", portPath(dir, 9))
	if err != nil {
		b.Fatal(err)
	}
	defer l.Close()
	go func() {
		if c, err := l.Accept(); err == nil {
			io.Copy(io.Discard, c)
			c.Close()
		}
	}()
	p := peer{b, d}
	var sent, forwarded, room uint32
	answer := func() {
		for {
			if h, _, ok := d.next(nil); ok {
				forwarded, room = h.FwdCnt, h.BufAlloc
				return
			}
			<-d.output
		}
	}
	p.send(p.packet(OpRequest, 1000, 9), "")
	answer()
	h, payload, w := p.packet(OpData, 1000, 9), make([]byte, 64<<10), new(Packet)
	h.Len = uint32(len(payload))
	b.SetBytes(int64(len(payload)))
	for b.Loop() {
		for room-(sent-forwarded) < h.Len {
			answer()
		}
		d.receive(w, h, payload)
		sent += h.Len
	}
}
