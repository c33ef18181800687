package console_test

import (
	"encoding/binary"
	"errors"
	"io"
	"net"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"warder/devices/virtio/console"
	"warder/devices/virtio/virtqtest"
)

const (
	featureMultiport = 2

	toldQueue, saidQueue = 2, 3

	deviceReady, portAdd, portReady, consolePort, resize, portOpen, portName = 0, 1, 3, 4, 5, 6, 7
)

// control is a control message with what follows it.
type control struct {
	Port         uint32
	Event, Value uint16
	More         string
}

// multiportDriver is a driver of a device with ports.
type multiportDriver struct {
	*virtqtest.Driver
	t *testing.T
}

func (d multiportDriver) say(port uint32, event, value uint16) {
	m := binary.LittleEndian.AppendUint32(nil, port)
	m = binary.LittleEndian.AppendUint16(m, event)
	m = binary.LittleEndian.AppendUint16(m, value)
	d.Rings[saidQueue].Add(virtqtest.Buffer{Data: m})
	d.Answer(saidQueue)
}

// told waits for what the device says next, n messages.
func (d multiportDriver) told(n int) (list []control) {
	for range n {
		d.Rings[toldQueue].Add(virtqtest.Buffer{Room: 128})
		a := d.Answer(toldQueue)
		if a.Written < 8 {
			d.t.Fatalf("a control message of %d bytes", a.Written)
		}
		m := a.Room[:a.Written]
		list = append(list, control{
			binary.LittleEndian.Uint32(m), binary.LittleEndian.Uint16(m[4:]), binary.LittleEndian.Uint16(m[6:]), string(m[8:]),
		})
	}
	return list
}

// twoPorts is a device with a terminal and a stream, whose driver has found both.
func twoPorts(t *testing.T) (multiportDriver, *console.Multiport) {
	t.Helper()
	dev, err := console.NewMultiport(console.PortConfig{Name: "tty", Terminal: true}, console.PortConfig{Name: "org.warder.data"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { dev.Close() })
	d := multiportDriver{virtqtest.NewDriver(t, dev), t}
	d.greet()
	return d, dev
}

func (d multiportDriver) greet() {
	d.t.Helper()
	d.Start(featureMultiport)
	if got := d.Get(virtqtest.RegConfig + 4); got != 2 {
		d.t.Errorf("%d ports, want 2", got)
	}
	d.say(0, deviceReady, 1)
	if diff := cmp.Diff([]control{{0, portAdd, 1, ""}, {1, portAdd, 1, ""}}, d.told(2)); diff != "" {
		d.t.Fatal(diff)
	}
	d.say(0, portReady, 1)
	if diff := cmp.Diff([]control{{0, consolePort, 1, ""}, {0, portName, 1, "tty"}}, d.told(2)); diff != "" {
		d.t.Fatal(diff)
	}
	d.say(1, portReady, 1)
	if diff := cmp.Diff([]control{{1, portName, 1, "org.warder.data"}}, d.told(1)); diff != "" {
		d.t.Fatal(diff)
	}
}

func TestPortOpensAndCloses(t *testing.T) {
	d, dev := twoPorts(t)
	p := dev.Port("org.warder.data")
	for range 2 {
		here, there := net.Pipe()
		gone, err := p.Connect(there)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff([]control{{1, portOpen, 1, ""}}, d.told(1)); diff != "" {
			t.Fatal(diff)
		}
		other, same := net.Pipe()
		if _, err := p.Connect(same); err == nil {
			t.Error("two could connect to a port")
		}
		if _, err := other.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
			t.Errorf("who was refused was not told: %v", err)
		}

		// The host's bytes wait for the guest to open the port.
		d.Rings[4].Add(virtqtest.Buffer{Room: 16})
		d.Kick(4)
		if _, err := io.WriteString(here, "to the guest"); err != nil {
			t.Fatal(err)
		}
		if _, early := d.Rings[4].Take(); early {
			t.Error("a port that nobody had opened was sent something")
		}
		d.say(1, portOpen, 1)
		if a := d.Answer(4); string(a.Room[:a.Written]) != "to the guest" {
			t.Errorf("the guest got %q", a.Room[:a.Written])
		}
		if !p.Open() {
			t.Error("the port is not open in the guest")
		}
		d.Rings[5].Add(virtqtest.Buffer{Data: []byte("to the")}, virtqtest.Buffer{Data: []byte(" host")})
		d.Kick(5)
		got := make([]byte, 11)
		if _, err := io.ReadFull(here, got); err != nil || string(got) != "to the host" {
			t.Errorf("the host got %q (%v)", got, err)
		}
		d.Answer(5)

		// A port that is closed in the guest holds what comes, and the end.
		here.Close()
		d.say(1, portOpen, 0)
		d.say(1, portOpen, 1)
		d.Rings[4].Add(virtqtest.Buffer{Room: 16}) // by which the end is found
		d.Kick(4)
		<-gone
		if diff := cmp.Diff([]control{{1, portOpen, 0, ""}}, d.told(1)); diff != "" {
			t.Fatal(diff)
		}
		d.greet()
		if p.Open() {
			t.Error("after a reset the port is open")
		}
	}
	// With nobody there a guest's bytes go nowhere.
	d.Rings[5].Add(virtqtest.Buffer{Data: []byte("lost")})
	d.Answer(5)
}

func TestTerminalSize(t *testing.T) {
	d, dev := twoPorts(t)
	dev.Port("tty").SetSize(80, 25)
	dev.Port("org.warder.data").SetSize(1, 1) // which is no terminal
	if diff := cmp.Diff([]control{{0, resize, 0, "\x50\x00\x19\x00"}}, d.told(1)); diff != "" {
		t.Error(diff)
	}
	// Linux leaves a terminal as it is when the device has no sizes to read.
	if dev.Info().Features&featureSize == 0 {
		t.Error("no feature of a size")
	}
	if got := d.Get(virtqtest.RegConfig); got != 25<<16|80 {
		t.Errorf("the configuration has a size of %#x", got)
	}
}

// TestNonsenseIsBounded has the driver ask for everything many times before it takes
// one answer.
func TestNonsenseIsBounded(t *testing.T) {
	d, _ := twoPorts(t)
	for i := range uint16(1000) {
		d.say(uint32(i), i, i)
		d.say(0, deviceReady, 1)
		d.say(1, portReady, 1)
		d.say(1<<32-1, portReady, 1)
	}
	d.Rings[saidQueue].Add(virtqtest.Buffer{Data: []byte{1, 0, 0}})
	d.Answer(saidQueue)
	if diff := cmp.Diff([]control{{0, portAdd, 1, ""}, {1, portAdd, 1, ""}, {1, portName, 1, "org.warder.data"}}, d.told(3)); diff != "" {
		t.Error(diff)
	}
	d.Rings[toldQueue].Add(virtqtest.Buffer{Room: 7})
	d.say(0, portReady, 1)
	d.Kick(toldQueue)
	d.NeedsReset()
	d.greet()
}

// TestDriverOfOnePort does without the feature, and has the first port.
func TestDriverOfOnePort(t *testing.T) {
	d, dev := twoPorts(t)
	d.Start(0)
	here, there := net.Pipe()
	if _, err := dev.Port("tty").Connect(there); err != nil {
		t.Fatal(err)
	}
	d.Rings[receive].Add(virtqtest.Buffer{Room: 8})
	go io.WriteString(here, "typed")
	if a := d.Answer(receive); string(a.Room[:a.Written]) != "typed" {
		t.Errorf("the guest got %q", a.Room[:a.Written])
	}
}

func TestPortNames(t *testing.T) {
	for _, bad := range [][]console.PortConfig{
		nil, {{Name: ""}}, {{Name: "a/b"}}, {{Name: ".."}}, {{Name: "a b"}}, {{Name: "ä"}}, {{Name: strings.Repeat("x", 65)}},
		{{Name: "a"}, {Name: "a"}}, make([]console.PortConfig, 16),
	} {
		if _, err := console.NewMultiport(bad...); err == nil {
			t.Errorf("%+v was taken", bad)
		}
	}
}

func TestConnectToNoMachine(t *testing.T) {
	dev, err := console.NewMultiport(console.PortConfig{Name: "p"})
	if err != nil {
		t.Fatal(err)
	}
	here, there := net.Pipe()
	gone, err := dev.Port("p").Connect(there)
	if err != nil {
		t.Fatal(err)
	}
	if err := dev.Close(); err != nil {
		t.Error(err)
	}
	<-gone
	if _, err := here.Read(make([]byte, 1)); err == nil {
		t.Error("the connection outlived the device")
	}
	_, there = net.Pipe()
	if _, err := dev.Port("p").Connect(there); err == nil {
		t.Error("a port could be connected to after its end")
	}
}

func TestEmergencyWrite(t *testing.T) {
	out := &screen{}
	dev := console.New(nil, out)
	d := virtqtest.NewDriver(t, dev)
	d.Write(virtqtest.RegConfig+8, []byte{'!', 0, 0, 0}) // before there is a driver
	if err := dev.Close(); err != nil {
		t.Fatal(err)
	}
	if out.String() != "!" {
		t.Errorf("%q was printed", out.String())
	}
}

func FuzzMultiport(f *testing.F) {
	say := func(port, event, value byte) []byte {
		return []byte{0, saidQueue, 1, 8, port, 0, 0, 0, event, 0, value, 0, 0}
	}
	f.Add(append(append(say(0, deviceReady, 1), say(1, portReady, 1)...), 1, toldQueue, 0, 1, 16))
	f.Add(append(append(say(1, portReady, 1), say(1, portOpen, 1)...), 1, 4, 0, 1, 16, 0, 5, 1, 3, 'a', 'b', 'c', 0))
	f.Fuzz(func(t *testing.T, program []byte) {
		dev, err := console.NewMultiport(console.PortConfig{Name: "a", Terminal: true}, console.PortConfig{Name: "b"})
		if err != nil {
			t.Fatal(err)
		}
		defer dev.Close()
		here, there := net.Pipe()
		go io.Copy(io.Discard, here)
		go io.WriteString(here, strings.Repeat("typed", 100))
		if _, err := dev.Port("b").Connect(there); err != nil {
			t.Fatal(err)
		}
		d := multiportDriver{virtqtest.Play(t, dev, program), t}
		d.greetAgain()
		d.Rings[5].Add(virtqtest.Buffer{Data: []byte("the end")})
		d.Answer(5)
	})
}

// greetAgain starts a device that a fuzzer has played with.
func (d multiportDriver) greetAgain() {
	d.Start(featureMultiport)
	d.say(0, deviceReady, 1)
	if diff := cmp.Diff([]control{{0, portAdd, 1, ""}, {1, portAdd, 1, ""}}, d.told(2)); diff != "" {
		d.t.Fatal(diff)
	}
}
