// Package mem is virtio-mem: a region of guest memory that the guest plugs and
// unplugs block by block, as the host asks it to.
//
// The host sets how much it wants to be plugged; the driver gets there by
// requests. What is not plugged is not there: an access finds no memory, takes
// none of the host's, and is the guest's own fault (VIRTIO_MEM_F_UNPLUGGED_INACCESSIBLE).
// So a guest never has more than the host granted, and one that does not give
// back is seen to have what it has.
//
// Source: VIRTIO 1.2, section 5.15.
package mem

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"sync"

	"warder/devices/guestmem"
	"warder/devices/virtio"
	"warder/devices/virtio/virtq"
)

// featureInaccessible says that drivers must not touch what is not plugged.
// ACPI_PXM, bit 0, is for machines with several NUMA nodes.
const featureInaccessible = 1 << 1

// Memory is what the region is made of. Plug and Unplug get whole blocks.
type Memory interface {
	// Plug has the n bytes at a be there, empty.
	Plug(a guestmem.Addr, n uint64) error
	// Unplug takes them away. guestmem.ErrKept says that they can't go now.
	Unplug(a guestmem.Addr, n uint64) error
}

// Config is a region, as plain data.
type Config struct {
	Memory Memory
	Base   guestmem.Addr // a multiple of Block
	Size   uint64        // bytes, a multiple of Block
	Block  uint64        // bytes, a power of two
}

// Device is a region of memory that comes and goes.
type Device struct {
	cfg   Config
	asked chan struct{} // that the host has asked for something since it was last read

	mu        sync.Mutex
	requested uint64
	plugged   []bool // by block
	count     uint64 // of blocks plugged
	changed   func()
}

// New makes a device with nothing plugged.
func New(cfg Config) (*Device, error) {
	if cfg.Block == 0 || cfg.Block&(cfg.Block-1) != 0 || cfg.Size == 0 || cfg.Size%cfg.Block != 0 || uint64(cfg.Base)%cfg.Block != 0 {
		return nil, fmt.Errorf("mem: %#x bytes at %#x are no blocks of %#x", cfg.Size, cfg.Base, cfg.Block)
	}
	return &Device{cfg: cfg, asked: make(chan struct{}, 1), plugged: make([]bool, cfg.Size/cfg.Block)}, nil
}

// Info implements virtio.Device.
func (d *Device) Info() virtio.Info {
	return virtio.Info{ID: virtio.IDMem, Name: "mem", Features: featureInaccessible, QueueMax: []uint16{64}}
}

// configSize is the length of struct virtio_mem_config, section 5.15.4.
const configSize = 56

// ReadConfig implements virtio.Device. The plugged size that a driver finds is
// that of its start, or of the latest change by the host: it knows its own.
func (d *Device) ReadConfig(p []byte, off uint64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	b := binary.LittleEndian.AppendUint64(make([]byte, 0, configSize), d.cfg.Block)
	b = binary.LittleEndian.AppendUint64(b, 0) // node_id, padding
	for _, v := range []uint64{
		uint64(d.cfg.Base), d.cfg.Size, d.cfg.Size, // all of the region is usable
		d.count * d.cfg.Block, d.requested,
	} {
		b = binary.LittleEndian.AppendUint64(b, v)
	}
	clear(p)
	if off < configSize {
		copy(p, b[off:])
	}
}

// OnConfigChange implements virtio.ConfigNotifier.
func (d *Device) OnConfigChange(f func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.changed = f
}

// notify says that the configuration has changed.
func (d *Device) notify() {
	d.mu.Lock()
	changed := d.changed
	d.mu.Unlock()
	if changed != nil {
		changed()
	}
}

// Request asks the driver to have so many bytes plugged, cut to the region and to
// whole blocks. More it can't plug; less it gets to as it can, and is reminded
// meanwhile.
func (d *Device) Request(bytes uint64) {
	d.mu.Lock()
	d.requested = min(bytes, d.cfg.Size) &^ (d.cfg.Block - 1)
	d.mu.Unlock()
	select {
	case d.asked <- struct{}{}:
	default:
	}
	d.notify()
}

// State is the region's size in bytes.
type State struct {
	Region    uint64 // the most that can be plugged
	Requested uint64 // that the host asks for
	Plugged   uint64 // that the guest has
}

// State may be called at any time.
func (d *Device) State() State {
	d.mu.Lock()
	defer d.mu.Unlock()
	return State{d.cfg.Size, d.requested, d.count * d.cfg.Block}
}

// Run implements virtio.Device.
func (d *Device) Run(ctx context.Context, _ uint64, queues []*virtq.Queue) error {
	requests := queues[0]
	if requests == nil {
		return nil
	}
	defer d.notify() // the next driver is to find what is plugged
	var reminder sync.WaitGroup
	defer reminder.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	reminder.Go(func() { d.remind(ctx) })
	for {
		c, err := requests.Next(ctx)
		if err != nil {
			return err
		}
		answer, err := d.serve(c)
		if err != nil {
			return err
		}
		n, err := c.Writer.Write(answer[:min(len(answer), c.Writer.Len())])
		if err != nil {
			return err
		}
		if err := requests.Push(c, uint32(n)); err != nil {
			return err
		}
	}
}

// serve carries one request out and returns the response, struct
// virtio_mem_resp.
func (d *Device) serve(c *virtq.Chain) ([]byte, error) {
	var b [requestSize]byte
	if _, err := io.ReadFull(c.Reader, b[:]); err != nil {
		return nil, fmt.Errorf("%w: request of less than %d bytes", virtq.ErrMalformed, requestSize)
	}
	var result response
	var state uint16
	err := c.Do(func() (err error) {
		d.mu.Lock()
		defer d.mu.Unlock()
		result, state, err = d.handle(parse(b[:]))
		return err
	})
	answer := binary.LittleEndian.AppendUint64(make([]byte, 0, 10), uint64(result))
	return binary.LittleEndian.AppendUint16(answer, state), err
}

var (
	_ virtio.Device         = (*Device)(nil)
	_ virtio.ConfigNotifier = (*Device)(nil)
	_ Memory                = (*guestmem.Memory)(nil)
)
