package mmio_test

import (
	"encoding/binary"
	"log/slog"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"

	"warder/devices/virtio"
	"warder/devices/virtio/mmio"
	"warder/devices/virtio/virtqtest"
)

func TestQueueTakenAway(t *testing.T) {
	dev := &echo{}
	d := virtqtest.NewDriver(t, dev)
	ready := func() uint32 {
		d.Put(virtqtest.RegQueueSel, 0)
		return d.Get(virtqtest.RegQueueReady)
	}

	// While queues are set up, one may go and come back elsewhere.
	d.Negotiate(virtio.FVersion1)
	for _, at := range []int{0, 0x8000} {
		d.SetQueue(0, virtqtest.NewRing(d.Mem, 16, at, at+0x8000))
		if ready() != 1 {
			t.Fatal("the queue is not ready")
		}
		d.Put(virtqtest.RegQueueReady, 0)
		if ready() != 0 {
			t.Fatal("the queue is still ready")
		}
	}
	if d.Get(virtqtest.RegStatus)&virtqtest.StatusNeedsReset != 0 {
		t.Error("taking a queue away before the start broke the device")
	}

	// A running device stops using it at once, and says so.
	d.Start(0)
	if got := ask(d, 'a'); got != "a" {
		t.Fatalf("%q", got)
	}
	d.Put(virtqtest.RegQueueSel, 0)
	d.Put(virtqtest.RegQueueReady, 0)
	if n := dev.running.Load(); n != 0 || ready() != 0 {
		t.Errorf("%d workers use a queue that was taken away", n)
	}
	d.NeedsReset()
	d.Start(0)
	if got := ask(d, 'b'); got != "b" {
		t.Errorf("after a reset: %q", got)
	}
}

func TestNothingStartsAfterClose(t *testing.T) {
	dev := &echo{}
	d := virtqtest.NewDriver(t, dev)
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	if d.Negotiate(virtio.FVersion1) {
		t.Error("a closed device negotiates")
	}
	d.SetQueue(0, virtqtest.NewRing(d.Mem, 16, 0, 0x8000))
	d.Kick(0)
	d.Put(virtqtest.RegStatus, 0xf)
	dev.changed()
	if n := dev.runs.Load(); n != 0 {
		t.Errorf("%d workers were started after Close", n)
	}
	if n := d.Stats().Interrupts; n != 0 {
		t.Errorf("%d interrupts after Close", n)
	}
}

// slowLine is an interrupt line during whose pulse much can happen.
type slowLine struct {
	entered chan struct{}
	closed  atomic.Bool
	late    bool // a pulse went on after the transport was closed
}

func (l *slowLine) Pulse() error {
	l.entered <- struct{}{}
	for range 10000 {
		runtime.Gosched()
	}
	l.late = l.closed.Load()
	return nil
}

// TestCloseWaitsForAnInterrupt closes a device while the host's side of it
// interrupts the guest: the line is not used after that.
func TestCloseWaitsForAnInterrupt(t *testing.T) {
	dev := &counter{}
	line := &slowLine{entered: make(chan struct{})}
	tr, err := mmio.New(dev, virtqtest.NewMemory(t), line, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	d := virtqtest.Driver{Transport: tr}
	d.Negotiate(virtio.FVersion1)
	d.Put(virtqtest.RegStatus, virtqtest.StatusDriverOK)
	var wg sync.WaitGroup
	wg.Go(dev.changed)
	<-line.entered
	if err := tr.Close(); err != nil {
		t.Error(err)
	}
	line.closed.Store(true)
	wg.Wait()
	if line.late {
		t.Error("the line was pulsed after the end")
	}
}

// counter is a device whose configuration is one number, twice.
type counter struct {
	echo
	mu sync.Mutex
	n  uint32
}

func (c *counter) ReadConfig(p []byte, off uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	b := binary.LittleEndian.AppendUint32(nil, c.n)
	b = binary.LittleEndian.AppendUint32(b, c.n)
	clear(p)
	if off < uint64(len(b)) {
		copy(p, b[off:])
	}
}

// WriteConfig implements virtio.ConfigWriter.
func (c *counter) WriteConfig(p []byte, off uint64) {
	if off == 0 && len(p) == 4 {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.n = binary.LittleEndian.Uint32(p)
	}
}

// TestConfigIsOfOneGeneration reads the configuration in two accesses while it
// changes: with the same generation around them they are of one state.
func TestConfigIsOfOneGeneration(t *testing.T) {
	const changes = 20000
	dev := &counter{}
	d := virtqtest.NewDriver(t, dev)
	var wg sync.WaitGroup
	wg.Go(func() {
		for range changes {
			dev.mu.Lock()
			dev.n++
			dev.mu.Unlock()
			dev.changed()
		}
	})
	for last := uint32(0); last < changes; {
		before := d.Get(virtqtest.RegGeneration)
		low := d.Get(virtqtest.RegConfig)
		high := d.Get(virtqtest.RegConfig + 4)
		if d.Get(virtqtest.RegGeneration) != before {
			continue
		}
		if low != high {
			t.Fatalf("generation %d has %d and %d", before, low, high)
		}
		last = low
	}
	wg.Wait()

	before := d.Get(virtqtest.RegGeneration)
	d.Put(virtqtest.RegConfig, 5)
	if got := d.Get(virtqtest.RegConfig + 4); got != 5 || d.Get(virtqtest.RegGeneration) == before {
		t.Errorf("after the driver wrote 5 the configuration has %d", got)
	}
}

var (
	_ virtio.ConfigWriter   = (*counter)(nil)
	_ virtio.ConfigNotifier = (*counter)(nil)
	_ virtio.Device         = (*counter)(nil)
)
