package vsock

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"syscall"
	"testing"

	"warder/devices/virtio/virtqtest"
)

// ear notes the packets that it sees, and cuts those that it is told to.
type ear struct {
	mu   sync.Mutex
	seen []string
	cut  func(p *Packet) bool
}

func (e *ear) Packet(p *Packet) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if h := parseHeader(&p.Header); h.SrcCID != p.SourceCID || h.Op != p.Op || int(h.Len) != len(p.Payload) {
		panic(fmt.Sprintf("header %+v of packet %+v", h, p))
	}
	e.seen = append(e.seen, fmt.Sprintf("%d:%d>%d:%d %d %q", p.SourceCID, p.SourcePort, p.DestinationCID, p.DestinationPort, p.Op, p.Payload))
	return e.cut != nil && e.cut(p)
}

func (e *ear) Reset() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.seen = append(e.seen, "reset")
}

func (e *ear) take() []string {
	e.mu.Lock()
	defer e.mu.Unlock()
	seen := e.seen
	e.seen = nil
	return seen
}

// TestWatcherSeesEveryPacket has a guest's driver and a program of the host talk through
// the queues.
func TestWatcherSeesEveryPacket(t *testing.T) {
	e := &ear{}
	dev := newDevice(t, Config{Watcher: e})
	d, p := newDriver(t, dev), peer{t, dev}
	l, err := dev.Listen(9)
	if err != nil {
		t.Fatal(err)
	}
	d.send(p.packet(OpRequest, 1000, 9), "")
	c := accept(t, l)
	d.expect(OpResponse)
	d.send(p.packet(OpData, 1000, 9), "hello")
	if _, err := c.Write([]byte("world")); err != nil {
		t.Fatal(err)
	}
	d.expect(OpData)
	d.send(p.packet(OpRequest, 1001, 10), "") // nobody listens
	d.expect(OpReset)
	d.Put(virtqtest.RegStatus, 0)
	want := []string{
		`3:1000>2:9 1 ""`, `2:9>3:1000 2 ""`, `3:1000>2:9 5 "hello"`, `2:9>3:1000 5 "world"`, `3:1001>2:10 1 ""`, `2:10>3:1001 3 ""`, "reset",
	}
	if seen := e.take(); !slices.Equal(seen, want) {
		t.Errorf("seen\n%q, want\n%q", seen, want)
	}
}

// TestWatcherCuts has connections reset, by what the guest and by what the host says.
func TestWatcherCuts(t *testing.T) {
	e := &ear{cut: func(p *Packet) bool { return string(p.Payload) == "bad" || p.SourcePort == 1002 }}
	dev := newDevice(t, Config{Watcher: e})
	d, p := newDriver(t, dev), peer{t, dev}
	l, err := dev.Listen(9)
	if err != nil {
		t.Fatal(err)
	}
	for _, byGuest := range []bool{true, false} {
		d.send(p.packet(OpRequest, 1000, 9), "")
		c := accept(t, l)
		d.expect(OpResponse)
		if byGuest {
			d.send(p.packet(OpData, 1000, 9), "bad")
		} else if _, err := c.Write([]byte("bad")); err != nil {
			t.Fatal(err)
		}
		if h, _ := d.expect(OpReset); h.DstPort != 1000 {
			t.Errorf("by the guest %v: reset of %+v", byGuest, h)
		}
		if _, err := c.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNABORTED) {
			t.Errorf("by the guest %v: read: %v", byGuest, err)
		}
		c.Close()
	}
	d.send(p.packet(OpRequest, 1002, 9), "") // before it is a connection
	if h, _ := d.expect(OpReset); h.DstPort != 1002 {
		t.Errorf("reset of %+v", h)
	}
}
