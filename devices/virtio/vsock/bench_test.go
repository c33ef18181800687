package vsock

import (
	"context"
	"io"
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
