package vsock

import (
	"context"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"runtime"
	"testing"

	"warder/devices/virtio"
	"warder/devices/virtio/virtqtest"
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
			if p, _, ok := d.next(1); ok {
				forwarded, room = p.FwdCnt, p.BufAlloc
				return
			}
			<-d.output
		}
	}
	p.send(p.packet(OpRequest, 1000, 9), "")
	answer()
	h, payload, w := p.packet(OpData, 1000, 9), newChunk(), new(Packet)
	h.Len = chunkSize
	b.SetBytes(chunkSize)
	for b.Loop() {
		for room-(sent-forwarded) < h.Len {
			answer()
		}
		if d.receive(w, h, payload.bytes[:], payload) {
			payload = newChunk()
		}
		sent += h.Len
	}
}

// BenchmarkFromSocket is the way of 64 KiB that a program writes to a Unix socket to a
// guest's memory, in buffers as Linux offers them. The driver leaves all its buffers with
// the device, and has always read what it got.
func BenchmarkFromSocket(b *testing.B) {
	dir := b.TempDir()
	dev := newDevice(b, Config{Dir: dir})
	d := virtqtest.NewDriver(b, dev)
	d.Start(virtio.FEventIdx | virtio.FIndirectDesc)
	rx := virtqtest.NewPump(d, rxQueue, []virtqtest.Buffer{{Room: 4096 - 320}})
	rx.Fill()
	program, err := net.Dial("unix", filepath.Join(dir, "vsock.sock"))
	if err != nil {
		b.Fatal(err)
	}
	defer program.Close()
	fmt.Fprintln(program, "CONNECT 7")
	for rx.Take() == 0 {
		runtime.Gosched()
	}
	rx.Fill()
	var c *Conn
	dev.mu.Lock()
	for _, c = range dev.conns {
		c.receive(header{Op: OpResponse, BufAlloc: 1 << 20}, nil, nil)
	}
	dev.mu.Unlock()
	if _, err := io.ReadFull(program, make([]byte, len(fmt.Sprintln("OK", c.ports.host)))); err != nil {
		b.Fatal(err)
	}

	block := make([]byte, 64<<10)
	total := uint32(b.N * len(block)) // as its counters do
	b.SetBytes(int64(len(block)))
	b.ReportAllocs()
	b.ResetTimer()
	failed := make(chan error, 1)
	go func() {
		for range b.N {
			if _, err := program.Write(block); err != nil {
				failed <- err
				return
			}
		}
	}()
	packets := 0
	for done := false; !done; {
		packets += rx.Take()
		rx.Fill()
		dev.mu.Lock()
		c.peerFwd = c.txCnt
		done = c.txCnt == total
		dev.mu.Unlock()
		select {
		case err := <-failed:
			b.Fatal(err)
		default:
		}
	}
	b.ReportMetric(float64(packets)/float64(b.N), "packets/op")
}
