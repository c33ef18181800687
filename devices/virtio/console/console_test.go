package console_test

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"

	"warder/devices/virtio/console"
	"warder/devices/virtio/virtqtest"
)

const (
	receive, transmit = 0, 1

	featureSize = 1
)

// screen is what the guest printed.
type screen struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *screen) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *screen) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

func TestPrints(t *testing.T) {
	var out screen
	d := virtqtest.NewDriver(t, console.New(nil, &out))
	d.Start(featureSize)
	for _, s := range []string{"hello ", "", "world\n", strings.Repeat("x", 5000)} {
		d.Rings[transmit].Add(virtqtest.Buffer{Data: []byte(s)})
		d.Answer(transmit)
	}
	if got, want := out.String(), "hello world\n"+strings.Repeat("x", 5000); got != want {
		t.Errorf("%d bytes were printed, want %d", len(got), len(want))
	}
}

// stuck is a writer that takes nothing until it is let go.
type stuck struct {
	screen
	entered, release chan struct{}
}

func (s *stuck) Write(p []byte) (int, error) {
	select {
	case s.entered <- struct{}{}:
	default:
	}
	<-s.release
	return s.screen.Write(p)
}

// TestResetWhilePrinting resets a device whose writer is stuck: the reset must not
// wait for it, and what it had taken is still printed, before what comes later.
func TestResetWhilePrinting(t *testing.T) {
	out := &stuck{entered: make(chan struct{}, 1), release: make(chan struct{})}
	dev := console.New(nil, out)
	d := virtqtest.NewDriver(t, dev)
	d.Start(featureSize)
	d.Rings[transmit].Add(virtqtest.Buffer{Data: []byte("first ")})
	d.Kick(transmit)
	<-out.entered
	d.Start(featureSize)
	close(out.release)
	d.Rings[transmit].Add(virtqtest.Buffer{Data: []byte("second")})
	d.Answer(transmit)
	if got := out.String(); got != "first second" {
		t.Errorf("%q was printed", got)
	}
	if err := dev.Close(); err != nil {
		t.Error(err)
	}
}

// TestTypesAllOfIt types more than the guest has room for, across resets.
func TestTypesAllOfIt(t *testing.T) {
	var want strings.Builder
	for i := range 4000 {
		fmt.Fprintf(&want, "line %d\n", i)
	}
	dev := console.New(io.MultiReader(strings.NewReader(want.String()[:17]), strings.NewReader(want.String()[17:])), io.Discard)
	defer dev.Close()
	d := virtqtest.NewDriver(t, dev)
	var got strings.Builder
	for rounds := 0; got.Len() < want.Len(); rounds++ {
		if rounds%20 == 0 {
			d.Start(featureSize)
		}
		d.Rings[receive].Add(virtqtest.Buffer{Room: 100 + rounds})
		a := d.Answer(receive)
		got.Write(a.Room[:a.Written])
	}
	if got.String() != want.String() {
		t.Error("what was typed is not what came")
	}
}

// TestResetWhileWaiting resets a device that waits for input; the input then
// goes to the next driver.
func TestResetWhileWaiting(t *testing.T) {
	r, w := io.Pipe()
	dev := console.New(r, io.Discard)
	defer dev.Close()
	d := virtqtest.NewDriver(t, dev)
	for range 50 {
		d.Start(featureSize)
		d.Rings[receive].Add(virtqtest.Buffer{Room: 16})
		d.Kick(receive)
	}
	d.Start(featureSize)
	d.Rings[receive].Add(virtqtest.Buffer{Room: 16})
	go io.WriteString(w, "at last")
	if a := d.Answer(receive); string(a.Room[:a.Written]) != "at last" {
		t.Errorf("%q", a.Room[:a.Written])
	}
}

func TestSize(t *testing.T) {
	dev := console.New(nil, io.Discard)
	d := virtqtest.NewDriver(t, dev)
	d.Start(featureSize)
	dev.SetSize(80, 25)
	if got := d.Get(virtqtest.RegConfig); got != 25<<16|80 {
		t.Errorf("the configuration reads %#x", got)
	}
	if d.Get(virtqtest.RegInterruptStatus)&2 == 0 {
		t.Error("the guest was not told of the new size")
	}
}

func FuzzDevice(f *testing.F) {
	f.Add([]byte{0, 1, 1, 5, 'h', 'e', 'l', 'l', 'o', 0, 0, 0, 0, 1, 8})
	f.Fuzz(func(t *testing.T, program []byte) {
		var out screen
		dev := console.New(strings.NewReader(strings.Repeat("typed", 100)), &out)
		defer dev.Close()
		d := virtqtest.Play(t, dev, program)
		d.Rings[transmit].Add(virtqtest.Buffer{Data: []byte("the end")})
		d.Answer(transmit)
		if !strings.HasSuffix(out.String(), "the end") {
			t.Error("afterwards it prints nothing")
		}
	})
}
