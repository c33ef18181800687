package vsock

import (
	"context"
	"log/slog"
	"net"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const testCID = 3

func newDevice(t testing.TB, cfg Config) *Device {
	t.Helper()
	cfg.CID = testCID
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	d, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	d.start()
	return d
}

// peer plays the guest's driver, a packet at a time.
type peer struct {
	t testing.TB
	d *Device
}

// packet is a packet of the guest with a generous buffer.
func (p peer) packet(o Op, guest, host uint32) header {
	return header{
		SrcCID: testCID, DstCID: HostCID, SrcPort: guest, DstPort: host,
		Type: typeStream, Op: o, BufAlloc: 1 << 20,
	}
}

func (p peer) send(h header, payload string) {
	h.Len = uint32(len(payload))
	p.d.receive(new(Packet), h, []byte(payload), nil)
}

// sent is what the device has for the guest.
type sent struct {
	Op          Op
	Guest, Host uint32
	Flags       uint32
	Data        string
}

func (p peer) take() []sent {
	p.t.Helper()
	var all []sent
	for {
		h, _, ok := p.d.next(64 << 10)
		if !ok {
			return all
		}
		n := h.payload.len()
		if h.SrcCID != HostCID || h.DstCID != testCID || h.Type != typeStream || int(h.Len) != n {
			p.t.Fatalf("malformed packet %+v with %d bytes", h, n)
		}
		all = append(all, sent{h.Op, h.DstPort, h.SrcPort, h.Flags, string(h.payload.bytes())})
		h.payload.give()
	}
}

func (p peer) expect(want ...sent) {
	p.t.Helper()
	if diff := cmp.Diff(want, p.take()); diff != "" {
		p.t.Fatalf("packets for the guest (-want +got):\n%s", diff)
	}
}

// connect makes a connection from the guest to a new listener.
func (p peer) connect(guest, host uint32) *Conn {
	p.t.Helper()
	l, err := p.d.Listen(host)
	if err != nil {
		p.t.Fatal(err)
	}
	defer l.Close()
	p.send(p.packet(OpRequest, guest, host), "")
	c := accept(p.t, l)
	p.expect(sent{Op: OpResponse, Guest: guest, Host: host})
	return c
}

func accept(t testing.TB, l net.Listener) *Conn {
	t.Helper()
	c, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	return c.(*Conn)
}

// join makes each of two devices the guest of the other, until the context ends.
func join(ctx context.Context, a, b *Device) (done func()) {
	carry := func(from, to *Device) chan struct{} {
		done := make(chan struct{})
		go func() {
			defer close(done)
			watched := new(Packet)
			for {
				h, _, ok := from.next(4096 - HeaderSize)
				if !ok {
					select {
					case <-from.output:
						continue
					case <-ctx.Done():
						return
					}
				}
				h.SrcCID, h.DstCID = testCID, HostCID
				to.receive(watched, h.header, h.payload.bytes(), nil)
				h.payload.give()
			}
		}()
		return done
	}
	there, back := carry(a, b), carry(b, a)
	return func() { <-there; <-back }
}
