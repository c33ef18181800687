package virtqtest

import (
	"encoding/binary"
	"log/slog"
	"testing"
	"time"

	"warder/devices/guestmem"
	"warder/devices/irq"
	"warder/devices/virtio"
	"warder/devices/virtio/mmio"
)

// Registers and status bits that a driver uses (VIRTIO 1.2, section 4.2.2).
const (
	RegDeviceFeatures  = 0x010
	RegDeviceSel       = 0x014
	RegDriverFeatures  = 0x020
	RegDriverSel       = 0x024
	RegQueueSel        = 0x030
	RegQueueSizeMax    = 0x034
	RegQueueSize       = 0x038
	RegQueueReady      = 0x044
	RegInterruptStatus = 0x060
	RegInterruptACK    = 0x064
	RegStatus          = 0x070
	RegQueueDesc       = 0x080
	RegQueueAvail      = 0x090
	RegQueueUsed       = 0x0a0
	RegGeneration      = 0x0fc
	RegConfig          = 0x100

	StatusAcknowledge = 1
	StatusDriver      = 2
	StatusDriverOK    = 4
	StatusFeaturesOK  = 8
	StatusNeedsReset  = 64

	interruptConfig = 2 // in RegInterruptStatus
)

// patience is how long a device may take for an answer.
const patience = 20 * time.Second

// Driver drives one device through its transport.
type Driver struct {
	*mmio.Transport
	Mem   *guestmem.Memory
	Rings []*Ring // of the queues that are set up

	t          testing.TB
	dev        virtio.Device
	interrupts chan struct{}
}

// NewDriver puts dev behind a transport in memory of its own.
func NewDriver(t testing.TB, dev virtio.Device) *Driver {
	t.Helper()
	return NewDriverIn(t, NewMemory(t), dev)
}

// NewDriverIn puts dev behind a transport in memory that it knows, of NewMemory.
func NewDriverIn(t testing.TB, mem *guestmem.Memory, dev virtio.Device) *Driver {
	t.Helper()
	d := &Driver{Mem: mem, t: t, dev: dev, interrupts: make(chan struct{}, 1)}
	line := irq.Func(func() error {
		select {
		case d.interrupts <- struct{}{}:
		default:
		}
		return nil
	})
	tr, err := mmio.New(dev, d.Mem, line, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	d.Transport = tr
	t.Cleanup(func() {
		if err := tr.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return d
}

// Get reads a register.
func (d *Driver) Get(reg uint64) uint32 {
	var p [4]byte
	d.Read(reg, p[:])
	return binary.LittleEndian.Uint32(p[:])
}

// Put writes a register.
func (d *Driver) Put(reg uint64, v uint32) {
	var p [4]byte
	binary.LittleEndian.PutUint32(p[:], v)
	d.Write(reg, p[:])
}

// Put64 writes a pair of registers, low word first.
func (d *Driver) Put64(reg, v uint64) {
	d.Put(reg, uint32(v))
	d.Put(reg+4, uint32(v>>32))
}

// Offered is what features the device offers.
func (d *Driver) Offered() uint64 {
	d.Put(RegDeviceSel, 0)
	low := d.Get(RegDeviceFeatures)
	d.Put(RegDeviceSel, 1)
	return uint64(d.Get(RegDeviceFeatures))<<32 | uint64(low)
}

// Negotiate resets the device and takes features, and reports whether the
// device agrees.
func (d *Driver) Negotiate(features uint64) bool {
	d.Put(RegStatus, 0)
	d.Put(RegStatus, StatusAcknowledge)
	d.Put(RegStatus, StatusAcknowledge|StatusDriver)
	d.Put(RegDriverSel, 0)
	d.Put(RegDriverFeatures, uint32(features))
	d.Put(RegDriverSel, 1)
	d.Put(RegDriverFeatures, uint32(features>>32))
	d.Put(RegStatus, StatusAcknowledge|StatusDriver|StatusFeaturesOK)
	return d.Get(RegStatus)&StatusFeaturesOK != 0
}

// SetQueue lets the device have ring as its queue i.
func (d *Driver) SetQueue(i int, r *Ring) {
	d.place(i, r)
	d.Put(RegQueueReady, 1)
}

// place says where queue i is to be.
func (d *Driver) place(i int, r *Ring) {
	d.Put(RegQueueSel, uint32(i))
	d.Put(RegQueueSize, uint32(r.Size))
	d.Put64(RegQueueDesc, uint64(r.Desc()))
	d.Put64(RegQueueAvail, uint64(r.Avail()))
	d.Put64(RegQueueUsed, uint64(r.Used()))
}

// Start brings the device up with these of its features, the transport's own
// among them or not, and all its queues, of at most 64 descriptors each.
func (d *Driver) Start(features uint64) {
	d.t.Helper()
	if !d.Negotiate(features | virtio.FVersion1) {
		d.t.Fatalf("features %#x were refused", features)
	}
	d.Rings = nil
	queues := d.dev.Info().QueueMax
	share := MemorySize / max(len(queues), 1) &^ 0xfff
	for i, size := range queues {
		r := NewRing(d.Mem, min(size, 64), i*share, (i+1)*share)
		must(d.Mem.WriteAt(make([]byte, r.free-r.start), r.start))
		r.EventIdx = features&virtio.FEventIdx != 0
		d.SetQueue(i, r)
		d.Rings = append(d.Rings, r)
	}
	d.Put(RegStatus, StatusAcknowledge|StatusDriver|StatusFeaturesOK|StatusDriverOK)
}

// Kick rings queue i's doorbell.
func (d *Driver) Kick(i int) { d.Put(mmio.QueueNotify, uint32(i)) }

// Answer kicks queue i and waits for the device's next answer in it.
func (d *Driver) Answer(i int) Answer {
	d.t.Helper()
	d.Kick(i)
	timeout := time.After(patience)
	for {
		if a, ok := d.Rings[i].Take(); ok {
			d.Rings[i].PutUsedEvent(d.Rings[i].used)
			return a
		}
		select {
		case <-d.interrupts:
			d.Put(RegInterruptACK, d.Get(RegInterruptStatus))
		case <-timeout:
			d.t.Fatalf("no answer in queue %d; status %#x", i, d.Get(RegStatus))
		}
		if d.Get(RegStatus)&StatusNeedsReset != 0 {
			d.t.Fatalf("the device needs a reset before it answered in queue %d", i)
		}
	}
}

// NeedsReset waits for the device to say so, and to raise the interrupt that a driver
// learns it by.
func (d *Driver) NeedsReset() {
	d.t.Helper()
	d.await(d.needsReset, func() {})
}

func (d *Driver) needsReset() bool {
	return d.Get(RegStatus)&StatusNeedsReset != 0 && d.Get(RegInterruptStatus)&interruptConfig != 0
}

// await waits for the device, doing again and again what may bring it on.
func (d *Driver) await(done func() bool, again func()) {
	d.t.Helper()
	timeout := time.After(patience)
	for !done() {
		again()
		select {
		case <-d.interrupts:
		case <-time.After(time.Millisecond):
		case <-timeout:
			d.t.Fatalf("the device goes on; status %#x, interrupt status %#x", d.Get(RegStatus), d.Get(RegInterruptStatus))
		}
	}
}
