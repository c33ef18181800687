package vsock

import (
	"bytes"
	"errors"
	"io"
	"net"
	"strings"
	"syscall"
	"testing"

	"warder/devices/virtio"
	"warder/devices/virtio/virtqtest"
)

const (
	rxQueue = iota
	txQueue
	eventQueue
)

// driver drives the device as the guest's kernel does.
type driver struct {
	*virtqtest.Driver
	t testing.TB
}

func newDriver(t testing.TB, d *Device) driver {
	dr := driver{virtqtest.NewDriver(t, d), t}
	dr.start()
	return dr
}

// listening is a device with somebody on the host who listens on port 7.
func listening(t testing.TB) (*Device, net.Listener) {
	t.Helper()
	dev := newDevice(t, Config{})
	l, err := dev.Listen(7)
	if err != nil {
		t.Fatal(err)
	}
	return dev, l
}

func (d driver) start() {
	d.Start(virtio.FEventIdx | virtio.FIndirectDesc)
	for range 8 {
		d.offer(4096)
	}
}

func (d driver) offer(room int) {
	d.Rings[rxQueue].Add(virtqtest.Buffer{Room: room})
	d.Kick(rxQueue)
}

func packetBytes(h header, payload string) []byte {
	h.Len = uint32(len(payload))
	var b [HeaderSize]byte
	h.encode(&b)
	return append(b[:], payload...)
}

// send sends a packet in two pieces and waits until the device gave them back.
func (d driver) send(h header, payload string) {
	d.t.Helper()
	b := packetBytes(h, payload)
	bufs := []virtqtest.Buffer{{Data: b[:HeaderSize]}}
	if payload != "" {
		bufs = append(bufs, virtqtest.Buffer{Data: b[HeaderSize:]})
	}
	d.Rings[txQueue].Add(bufs...)
	if a := d.Answer(txQueue); a.Written != 0 {
		d.t.Fatalf("the device wrote %d bytes to a packet of the guest", a.Written)
	}
}

// take waits for a packet of the device and offers its buffer again.
func (d driver) take() (header, string) {
	d.t.Helper()
	a := d.Answer(rxQueue)
	if a.Written < HeaderSize {
		d.t.Fatalf("a packet of %d bytes", a.Written)
	}
	h := parseHeader((*[HeaderSize]byte)(a.Room))
	if int(a.Written) != HeaderSize+int(h.Len) {
		d.t.Fatalf("%d bytes written for %+v", a.Written, h)
	}
	d.offer(4096)
	return h, string(a.Room[HeaderSize:a.Written])
}

func (d driver) expect(o Op) (header, string) {
	d.t.Helper()
	h, data := d.take()
	if h.Op != o {
		d.t.Fatalf("packet %+v, want operation %d", h, o)
	}
	return h, data
}

func TestConfigurationSpace(t *testing.T) {
	d := newDevice(t, Config{})
	got := make([]byte, 10)
	d.ReadConfig(got, 0)
	if want := []byte{testCID, 9: 0}; !bytes.Equal(got, want) {
		t.Errorf("configuration % x", got)
	}
	for _, off := range []uint64{8, 1 << 63, ^uint64(0)} {
		got[0] = 7
		if d.ReadConfig(got[:1], off); got[0] != 0 {
			t.Errorf("byte %d is %d", off, got[0])
		}
	}
}

func TestThroughTheQueues(t *testing.T) {
	dev := newDevice(t, Config{})
	dev.stop() // newDevice pretends that a driver is there
	if _, err := dev.Dial(t.Context(), 1); !errors.Is(err, ErrNotReady) {
		t.Errorf("dial before the driver: %v", err)
	}
	l, err := dev.Listen(7)
	if err != nil {
		t.Fatal(err)
	}
	p := peer{t, dev}
	d := newDriver(t, dev)
	for cycle := range 3 {
		// The guest connects, and both talk.
		d.send(p.packet(OpRequest, 1000, 7), "")
		d.expect(OpResponse)
		c := accept(t, l)
		d.send(p.packet(OpData, 1000, 7), "from the guest")
		buf := make([]byte, 14)
		if _, err := io.ReadFull(c, buf); err != nil || string(buf) != "from the guest" {
			t.Fatalf("cycle %d: read %q, %v", cycle, buf, err)
		}
		big := string(bytes.Repeat([]byte("0123456789"), 1000))
		if _, err := io.WriteString(c, big); err != nil {
			t.Fatal(err)
		}
		var got string
		for len(got) < len(big) {
			_, data := d.expect(OpData)
			got += data
		}
		if got != big {
			t.Error("the guest read something else")
		}

		// The host connects, and is refused.
		refused := make(chan error)
		go func() {
			_, err := dev.Dial(t.Context(), 22)
			refused <- err
		}()
		h, _ := d.expect(OpRequest)
		d.send(p.packet(OpReset, 22, h.SrcPort), "")
		if err := <-refused; !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("cycle %d: dial: %v", cycle, err)
		}

		d.start() // reset and begin again
		if _, err := c.Read(buf); !errors.Is(err, ErrReset) {
			t.Errorf("cycle %d: read after the reset: %v", cycle, err)
		}
		c.Close()
	}
}

func TestMalformedPackets(t *testing.T) {
	dev, l := listening(t)
	p, d := peer{t, dev}, newDriver(t, dev)
	d.send(p.packet(OpRequest, 1000, 7), "")
	d.send(p.packet(OpRequest, 1001, 7), "")
	d.expect(OpResponse)
	d.expect(OpResponse)
	victim, other := accept(t, l), accept(t, l)

	whole := packetBytes(p.packet(OpData, 1000, 7), "x")
	for name, bufs := range map[string][]virtqtest.Buffer{
		"half a header":    {{Data: whole[:20]}},
		"nothing but room": {{Room: 100}},
	} {
		d.Rings[txQueue].Add(bufs...)
		if a := d.Answer(txQueue); a.Written != 0 {
			t.Errorf("%s: %d bytes written", name, a.Written)
		}
	}
	if dev.Dropped() != 2 {
		t.Errorf("%d packets dropped, want 2", dev.Dropped())
	}
	d.Rings[txQueue].Add(virtqtest.Buffer{Data: whole[:HeaderSize]}) // says that a byte follows
	d.Answer(txQueue)
	if h, _ := d.expect(OpReset); h.DstPort != 1000 {
		t.Errorf("reset of port %d", h.DstPort)
	}
	if _, err := victim.Read(make([]byte, 1)); !errors.Is(err, syscall.EPROTO) {
		t.Errorf("read: %v", err)
	}
	d.send(p.packet(OpData, 1001, 7), "y")
	if _, err := other.Read(make([]byte, 1)); err != nil {
		t.Errorf("the other connection: %v", err)
	}
}

// TestPacketsOfAnyLength sends what Linux does, and what it does not but may.
func TestPacketsOfAnyLength(t *testing.T) {
	dev, l := listening(t)
	p, d := peer{t, dev}, newDriver(t, dev)
	d.send(p.packet(OpRequest, 1000, 7), "")
	d.expect(OpResponse)
	c := accept(t, l)
	for round, n := range []int{0, 1, 4096, chunkSize - 1, chunkSize, chunkSize + 1, 3 * chunkSize, 7} {
		payload := strings.Repeat(string(rune('a'+round)), n)
		d.send(p.packet(OpData, 1000, 7), payload)
		got := make([]byte, n)
		if _, err := io.ReadFull(c, got); err != nil || string(got) != payload {
			t.Fatalf("a packet of %d bytes did not come through: %v", n, err)
		}
	}
}

// TestUselessBuffers: the guest gets back what is too small for a packet, and the
// packet goes into the next.
func TestUselessBuffers(t *testing.T) {
	dev := newDevice(t, Config{})
	d := driver{virtqtest.NewDriver(t, dev), t}
	d.Start(virtio.FEventIdx)
	d.offer(HeaderSize)
	d.Rings[rxQueue].Add(virtqtest.Buffer{Data: make([]byte, 100)})
	d.offer(HeaderSize + 1)
	p := peer{t, dev}
	d.send(p.packet(OpRequest, 1000, 7), "")
	for range 2 {
		if a := d.Answer(rxQueue); a.Written != 0 {
			t.Errorf("%d bytes written", a.Written)
		}
	}
	d.expect(OpReset)
}

func TestTransportReset(t *testing.T) {
	dev, l := listening(t)
	p, d := peer{t, dev}, newDriver(t, dev)
	d.send(p.packet(OpRequest, 1000, 7), "")
	d.expect(OpResponse)
	c := accept(t, l)
	d.Rings[eventQueue].Add(virtqtest.Buffer{Room: 4})
	dev.ResetTransport()
	if a := d.Answer(eventQueue); a.Written != 4 || !bytes.Equal(a.Room, []byte{eventReset, 0, 0, 0}) {
		t.Errorf("event % x", a.Room)
	}
	if _, err := c.Read(make([]byte, 1)); !errors.Is(err, ErrReset) {
		t.Errorf("read: %v", err)
	}
	d.send(p.packet(OpRequest, 1000, 7), "") // the listener is still there
	d.expect(OpResponse)
}

// TestSlowReader: what nobody reads holds up nobody else.
func TestSlowReader(t *testing.T) {
	dev, l := listening(t)
	p, d := peer{t, dev}, newDriver(t, dev)
	d.send(p.packet(OpRequest, 1000, 7), "")
	d.send(p.packet(OpRequest, 1001, 7), "")
	slow, quick := accept(t, l), accept(t, l)
	block := string(make([]byte, 8192))
	for range bufferSize / len(block) {
		d.send(p.packet(OpData, 1000, 7), block)
		d.send(p.packet(OpData, 1001, 7), "z")
		if _, err := quick.Read(make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := io.ReadFull(slow, make([]byte, bufferSize)); err != nil {
		t.Errorf("the slow reader lost something: %v", err)
	}
}

func FuzzQueues(f *testing.F) {
	// A chain of one buffer with a packet; buffers for packets; events.
	send := func(h header, payload string) []byte {
		b := packetBytes(h, payload)
		return append(append([]byte{0, txQueue, 1, byte(len(b))}, b...), 0)
	}
	offer := []byte{0, rxQueue, 0, 1, 255}
	p := peer{}
	f.Add(bytes.Join([][]byte{offer, offer, send(p.packet(OpRequest, 1000, 7), ""), send(p.packet(OpData, 1000, 7), "data"),
		offer, send(p.packet(OpShutdown, 1000, 7), ""), send(p.packet(OpReset, 1000, 7), "")}, nil))
	f.Add(bytes.Join([][]byte{send(p.packet(OpRequest, 1000, 8), ""), offer, {13, 0, 1}, offer,
		send(p.packet(OpRequest, 1000, 7), ""), {0, eventQueue, 0, 1, 1}}, nil))
	f.Fuzz(func(t *testing.T, program []byte) {
		dev := newDevice(t, Config{MaxConns: 3})
		l, err := dev.Listen(7)
		if err != nil {
			t.Fatal(err)
		}
		go func() { // a host program that sends back what it gets
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				go func() {
					defer c.Close()
					io.Copy(c, c)
				}()
			}
		}()
		virtqtest.Play(t, dev, program)
		dev.mu.Lock()
		defer dev.mu.Unlock()
		if len(dev.conns) != 0 || len(dev.refusals) > maxRefusals {
			t.Fatalf("%d connections, %d refusals after the device stopped", len(dev.conns), len(dev.refusals))
		}
	})
}
