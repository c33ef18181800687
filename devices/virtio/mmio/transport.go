package mmio

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"sync"
	"sync/atomic"

	"warder/devices/eventfd"
	"warder/devices/guestmem"
	"warder/devices/irq"
	"warder/devices/meter"
	"warder/devices/virtio"
	"warder/devices/virtio/virtq"
)

// Size is the length in bytes of a transport's registers: a page, the device's
// configuration space from offset 0x100 on.
const Size = 0x1000

// Bits of the device status, section 2.1.
const (
	statusFeaturesOK = 8
	statusDriverOK   = 4
	statusNeedsReset = 64
)

// Bits of the interrupt status, section 4.2.2.
const (
	interruptUsed   = 1 << 0
	interruptConfig = 1 << 1
)

// transportFeatures are offered with every device.
const transportFeatures = virtio.FVersion1 | virtio.FIndirectDesc | virtio.FEventIdx

// Transport is the registers of one device, a bus.Device of Size bytes.
type Transport struct {
	dev   virtio.Device
	info  virtio.Info
	mem   *guestmem.Memory
	line  irq.Line
	kicks []*eventfd.Eventfd // by queue, for the transport's whole life
	gate  virtq.Gate
	meter *meter.Meter // of the device's workers, nil for none

	mu             sync.Mutex // one register access at a time
	deviceSel      uint32     // which half of the features is read
	driverSel      uint32     // and written
	driverFeatures uint64
	status         uint32
	queueSel       uint32
	queues         []queueState
	closed         bool
	stop           context.CancelFunc // of the worker; nil while there is none
	worker         sync.WaitGroup

	liveMu sync.Mutex // held while the host's side interrupts; taken after mu
	live   bool       // between DRIVER_OK and the reset

	// What the worker changes too, which reset waits for with mu held.
	needsReset atomic.Bool
	interrupts atomic.Uint32 // InterruptStatus
	config     config

	stats counters
	log   limited
}

// queueState is what a driver has set of one queue.
type queueState struct {
	size              uint32
	desc, avail, used uint64
	queue             *virtq.Queue // not nil while the queue is ready
}

// New wires dev to the guest's memory and its interrupt line.
func New(dev virtio.Device, mem *guestmem.Memory, line irq.Line, log *slog.Logger) (*Transport, error) {
	info := dev.Info()
	t := &Transport{dev: dev, info: info, mem: mem, line: line, log: limited{log: log.With("device", info.Name)}}
	for _, size := range info.QueueMax {
		if size == 0 || size&(size-1) != 0 || size > virtq.MaxSize {
			return nil, errors.Join(fmt.Errorf("mmio: %s: queue size %d is no power of two up to %d", info.Name, size, virtq.MaxSize), t.Close())
		}
		kick, err := eventfd.New()
		if err != nil {
			return nil, errors.Join(err, t.Close())
		}
		t.kicks = append(t.kicks, kick)
	}
	t.queues = make([]queueState, len(info.QueueMax))
	t.config.load(dev)
	if n, ok := dev.(virtio.ConfigNotifier); ok {
		n.OnConfigChange(t.configChanged)
	}
	return t, nil
}

// Measure has the device's workers measured by m, from the next that start on.
func (t *Transport) Measure(m *meter.Meter) { t.meter = m }

// Name is the device's name.
func (t *Transport) Name() string { return t.info.Name }

// Kicks are the queues' doorbells, by queue: for ioeventfds at QueueNotify with
// the queue's number as data. A doorbell that exits all the same works too.
func (t *Transport) Kicks() []*eventfd.Eventfd { return t.kicks }

// Close stops the device for good: afterwards it touches neither guest memory
// nor its interrupt line, whatever is written to its registers. One that is
// suspended is closed as it is.
func (t *Transport) Close() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.stop != nil {
		t.stop() // first, so that the gate's errors are not taken for the device's
	}
	t.gate.Close()
	t.reset()
	t.closed = true
	var errs []error
	for _, k := range t.kicks {
		errs = append(errs, k.Close())
	}
	t.kicks = nil
	return errors.Join(errs...)
}

// start sets the device's worker going. The caller holds mu.
func (t *Transport) start() {
	ctx, cancel := context.WithCancel(context.Background())
	t.stop = cancel
	t.setLive(true)
	queues := make([]*virtq.Queue, len(t.queues))
	for i, q := range t.queues {
		queues[i] = q.queue
	}
	features := t.driverFeatures
	t.worker.Go(func() {
		if err := t.run(ctx, features, queues); err != nil && ctx.Err() == nil {
			t.fail(err)
		}
	})
}

// run is the device's Run. A panic in a device is a bug of ours that a guest
// may have found; it costs the guest its device and the host a log line.
func (t *Transport) run(ctx context.Context, features uint64, queues []*virtq.Queue) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v\n%s", p, debug.Stack())
		}
	}()
	return meter.Work(ctx, t.meter, func(ctx context.Context) error { return t.dev.Run(ctx, features, queues) })
}

// join stops the worker and waits until it has. The caller holds mu.
func (t *Transport) join() {
	if t.stop != nil {
		t.stop()
		t.worker.Wait()
		t.stop = nil
	}
}

// reset is the driver's write of 0 to the status. The caller holds mu.
func (t *Transport) reset() {
	t.join()
	t.setLive(false)
	t.config.load(t.dev) // what the driver set in it may have ended with it
	clear(t.queues)
	t.deviceSel, t.driverSel, t.driverFeatures, t.status, t.queueSel = 0, 0, 0, 0, 0
	t.needsReset.Store(false)
	t.interrupts.Store(0)
	t.stats.resets.Add(1)
}

// fail stops serving the guest until it resets the device.
func (t *Transport) fail(err error) {
	t.needsReset.Store(true)
	t.stats.failures.Add(1)
	t.log.warn("device needs a reset by its driver", err)
	t.interrupt(interruptConfig)
}

func (t *Transport) interrupt(cause uint32) {
	t.interrupts.Or(cause)
	t.stats.interrupts.Add(1)
	if err := t.line.Pulse(); err != nil {
		t.log.warn("interrupt lost", err)
	}
}

// configChanged is the device's word that its configuration did. A driver that is
// not there yet reads it when it comes.
func (t *Transport) configChanged() {
	t.config.load(t.dev)
	t.liveMu.Lock()
	defer t.liveMu.Unlock()
	if t.live {
		t.interrupt(interruptConfig)
	}
}

// setLive says whether the device may interrupt by itself. Once it says no, no
// interrupt is under way either.
func (t *Transport) setLive(live bool) {
	t.liveMu.Lock()
	defer t.liveMu.Unlock()
	t.live = live
}

// ready takes queue i into service, with the addresses that the driver has set.
// The caller holds mu.
func (t *Transport) ready(i int) {
	q := &t.queues[i]
	if t.status&statusFeaturesOK == 0 || t.status&statusDriverOK != 0 || q.queue != nil {
		return
	}
	if q.size > uint32(t.info.QueueMax[i]) {
		t.fail(fmt.Errorf("%w: queue %d of size %d, at most %d", virtq.ErrMalformed, i, q.size, t.info.QueueMax[i]))
		return
	}
	queue, err := virtq.New(t.mem, virtq.Config{
		Size: uint16(q.size),
		Desc: guestmem.Addr(q.desc), Avail: guestmem.Addr(q.avail), Used: guestmem.Addr(q.used),
		EventIdx: t.driverFeatures&virtio.FEventIdx != 0,
		Indirect: t.driverFeatures&virtio.FIndirectDesc != 0,
		Kick:     t.kicks[i],
		Notify:   func() error { t.interrupt(interruptUsed); return nil },
		Counters: &t.stats.queues,
		Gate:     &t.gate,
	})
	if err != nil {
		t.fail(err)
		return
	}
	q.queue = queue
}

// unready takes queue i out of service. A device has no way to give up one queue
// of several, nor does any driver ask for it while it runs: that ends the device
// until it is reset. The caller holds mu.
func (t *Transport) unready(i int) {
	if t.queues[i].queue == nil {
		return
	}
	if t.stop != nil {
		t.join()
		t.fail(fmt.Errorf("queue %d was taken away from the running device", i))
	}
	t.queues[i].queue = nil
}

// setStatus is the driver's write of the status. The caller holds mu.
func (t *Transport) setStatus(v uint32) {
	if v == 0 {
		t.reset()
		return
	}
	// Bits are only ever added (section 2.1.1); DEVICE_NEEDS_RESET is ours.
	added := v &^ t.status & 0xff &^ statusNeedsReset
	if added&statusFeaturesOK != 0 && !t.featuresOK() {
		added &^= statusFeaturesOK
	}
	if added&statusDriverOK != 0 && (t.status|added)&statusFeaturesOK == 0 {
		added &^= statusDriverOK
	}
	t.status |= added
	if added&statusDriverOK != 0 && !t.needsReset.Load() {
		t.start()
	}
}

func (t *Transport) offered() uint64 { return t.info.Features | transportFeatures }

// featuresOK reports whether the driver took only what was offered, and is no
// legacy driver.
func (t *Transport) featuresOK() bool {
	return t.driverFeatures&^t.offered() == 0 && t.driverFeatures&virtio.FVersion1 != 0
}
