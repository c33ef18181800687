package uplink

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"testing"

	"warder/devices/virtio/net"
	"warder/secmon/lan"
	"warder/secmon/lan/packet"
)

// wire is an interface that keeps what is sent.
type wire struct {
	to     net.Receiver
	sent   [][]byte
	left   []net.Offload
	closed int
}

func (w *wire) Start(r net.Receiver) error { w.to = r; return nil }
func (w *wire) Stop()                      { w.to = nil }
func (w *wire) Close() error               { w.closed++; return nil }
func (*wire) Ready(int)                    {}
func (w *wire) Send(f *net.Frame) {
	w.sent = append(w.sent, content(f))
	w.left = append(w.left, f.Offload)
	f.Release()
}

func content(f *net.Frame) []byte {
	b := bytes.Clone(f.Head)
	for _, p := range f.Body {
		b = append(b, p...)
	}
	return b
}

// guest is a service's device that has no room at first.
type guest struct {
	full bool
	got  [][]byte
}

func (*guest) Queue(*net.Frame) int { return 0 }

func (g *guest) Deliver(_ int, f *net.Frame, _ int) (int, error) {
	if g.full {
		return 0, net.ErrFull
	}
	g.got = append(g.got, content(f))
	return 0, nil
}

// frame is a long UDP datagram to or from outside.
func frame(to, from net.MAC, src, dst byte) []byte {
	const payload = 3000
	b := append(append([]byte{}, to[:]...), from[:]...)
	b = append(b, 8, 0, 0x45, 0, (payload+28)>>8, (payload+28)&0xff, 0, 0, 0, 0, 64, packet.UDP, 0, 0, 10, 0, 0, src, 10, 0, 0, dst)
	binary.BigEndian.PutUint16(b[14+10:], packet.Checksum(b[14:]))
	b = append(b, 0, 1, 0, 2, (payload+8)>>8, (payload+8)&0xff, 0, 0)
	return append(b, bytes.Repeat([]byte{src, dst, 7}, payload/3)...)
}

func TestUplink(t *testing.T) {
	s := lan.New(lan.Config{})
	inside, outside := net.MAC{2, 0, 0, 0, 0, 1}, net.MAC{2, 0, 0, 0, 0, 9}
	service, err := s.AddPort(lan.PortConfig{Name: "a", VLAN: 1, MAC: inside, Addresses: []netip.Addr{netip.MustParseAddr("10.0.0.1")}})
	if err != nil {
		t.Fatal(err)
	}
	port, err := s.AddPort(lan.PortConfig{Name: "uplink", VLAN: 1, Uplink: true})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.SetRules([]lan.Rule{{From: "a", To: "uplink"}}); err != nil {
		t.Fatal(err)
	}
	g, w := &guest{full: true}, &wire{}
	if err := service.Start(g); err != nil {
		t.Fatal(err)
	}
	u, err := Join(port, w)
	if err != nil {
		t.Fatal(err)
	}
	f := new(net.Frame)
	out, back := frame(outside, inside, 1, 9), frame(inside, outside, 9, 1)
	f.Fill(out)
	f.Offload = net.Offload{NeedsCsum: true, CsumStart: 34, CsumOffset: 6}
	service.Send(f)
	if len(w.sent) != 1 || !bytes.Equal(w.sent[0], out) || w.left[0] != f.Offload {
		t.Fatalf("out: %d frames, %+v", len(w.sent), w.left)
	}
	// What comes in waits for the guest, while the interface's memory is used again.
	memory := bytes.Clone(back)
	copy(memory[34:], []byte{0, 2, 0, 1}) // an answer: between the same ports
	want := bytes.Clone(memory)
	f.Fill(memory)
	if _, err := w.to.Deliver(0, f, 0); err != nil {
		t.Fatal(err)
	}
	clear(memory)
	g.full = false
	service.Ready(0)
	if len(g.got) != 1 || !bytes.Equal(g.got[0], want) {
		t.Errorf("in: %d frames", len(g.got))
	}
	if err := u.Close(); err != nil || w.to != nil || w.closed != 1 {
		t.Errorf("closed: %v, %+v", err, w)
	}
}
