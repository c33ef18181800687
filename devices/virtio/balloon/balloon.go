// Package balloon is virtio's memory balloon: the guest gives pages back to the
// host when the host asks for them, reports pages that it does not use, and says
// how its memory is used.
//
//   - The host sets a target; the driver finds as many pages as it can, names
//     them in the inflate queue, and they leave the host's memory.
//   - What the guest deflates it simply touches again.
//   - Under pressure the guest may take pages back by itself (DEFLATE_ON_OOM), so
//     that a target asks and never kills.
//   - Free pages are reported as they become free, target or not.
//
// A guest can name any page. What it names is emptied, if it is RAM of its own
// and nobody on the host keeps it: see guestmem.Memory.Discard.
//
// Source: VIRTIO 1.2, section 5.5.
package balloon

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"sync/atomic"

	"warder/devices/guestmem"
	"warder/devices/virtio"
	"warder/devices/virtio/virtq"
)

// PageSize is the balloon's unit in bytes, whatever the pages of guest and host.
const PageSize = 4096

// Feature bits, section 5.5.3. FREE_PAGE_HINT is for migration and not offered.
const (
	featureStats        = 1 << 1 // VIRTIO_BALLOON_F_STATS_VQ
	featureDeflateOnOOM = 1 << 2 // VIRTIO_BALLOON_F_DEFLATE_ON_OOM
	featurePagePoison   = 1 << 4 // VIRTIO_BALLOON_F_PAGE_POISON
	featureReporting    = 1 << 5 // VIRTIO_BALLOON_F_PAGE_REPORTING
)

// The queues. Those behind deflate are there by the features agreed on. The
// specification numbers them as if all were; Linux over virtio-mmio, one after
// the other.
const (
	queueInflate = iota
	queueDeflate
	queueOptional
)

// Memory is what the device needs of the guest's RAM; *guestmem.Memory has it.
type Memory interface {
	Discard(a guestmem.Addr, n uint64) (uint64, error)
	Locate(p []byte) (guestmem.Addr, bool)
}

// Device is a balloon.
type Device struct {
	mem Memory

	mu      sync.Mutex
	config  config
	changed func()

	polls     chan poll
	inflated  atomic.Uint64
	reported  atomic.Uint64
	discarded atomic.Uint64
}

// New makes an empty balloon for a guest with this memory.
func New(mem Memory) *Device { return &Device{mem: mem, polls: make(chan poll)} }

// Info implements virtio.Device.
func (d *Device) Info() virtio.Info {
	return virtio.Info{
		ID: virtio.IDBalloon, Name: "balloon",
		Features: featureStats | featureDeflateOnOOM | featurePagePoison | featureReporting,
		QueueMax: []uint16{256, 256, 16, 64, 64},
	}
}

// State is a balloon's size and what it has done. The counts only grow.
type State struct {
	Target    uint64 // bytes that the host asks for
	Actual    uint64 // bytes that the driver says are in the balloon
	Inflated  uint64 // bytes that the driver has put into it, all in all
	Reported  uint64 // bytes that the driver has reported as free, all in all
	Discarded uint64 // bytes of both that were the guest's to give
}

// State may be called at any time.
func (d *Device) State() State {
	d.mu.Lock()
	defer d.mu.Unlock()
	return State{
		Target: uint64(d.config.target) * PageSize, Actual: uint64(d.config.actual) * PageSize,
		Inflated: d.inflated.Load(), Reported: d.reported.Load(), Discarded: d.discarded.Load(),
	}
}

// Run implements virtio.Device.
func (d *Device) Run(ctx context.Context, features uint64, queues []*virtq.Queue) error {
	var loops []func(context.Context) error
	add := func(q *virtq.Queue, serve func(context.Context, *virtq.Queue) error) {
		loops = append(loops, func(ctx context.Context) error { return serve(ctx, q) })
	}
	if q := queues[queueInflate]; q != nil {
		add(q, d.inflate)
	}
	if q := queues[queueDeflate]; q != nil {
		add(q, d.deflate)
	}
	optional := slices.DeleteFunc(slices.Clone(queues[queueOptional:]), func(q *virtq.Queue) bool { return q == nil })
	if features&featureStats != 0 && len(optional) > 0 {
		add(optional[0], d.serveStats)
		optional = optional[1:]
	}
	if features&featureReporting != 0 && len(optional) > 0 {
		poison := features&featurePagePoison != 0
		add(optional[0], func(ctx context.Context, q *virtq.Queue) error { return d.report(ctx, q, poison) })
	}
	return virtio.Serve(ctx, loops...)
}

// batch is how many page numbers are read and sorted at a time, bytes of 4 each:
// Linux sends 256 in a chain.
const batch = 1024

// inflate gives the pages back whose numbers the driver sends.
func (d *Device) inflate(ctx context.Context, q *virtq.Queue) error {
	var buf [4 * batch]byte
	pages := make([]uint32, 0, batch)
	for {
		c, err := q.Next(ctx)
		if err != nil {
			return err
		}
		for c.Reader.Len() > 0 && ctx.Err() == nil {
			n, err := io.ReadFull(c.Reader, buf[:min(len(buf), c.Reader.Len())])
			if err != nil {
				return err
			}
			if n%4 != 0 {
				return fmt.Errorf("%w: %d bytes of page numbers", virtq.ErrMalformed, n)
			}
			pages = pages[:0]
			for p := buf[:n]; len(p) > 0; p = p[4:] {
				pages = append(pages, binary.LittleEndian.Uint32(p))
			}
			if err := c.Do(func() error { return d.discardPages(pages) }); err != nil {
				return err
			}
		}
		if err := q.Push(c, 0); err != nil {
			return err
		}
	}
}

// discardPages sorts the pages, of which a driver has many that are neighbours,
// and discards them run by run.
func (d *Device) discardPages(pages []uint32) error {
	slices.Sort(pages)
	d.inflated.Add(uint64(len(pages)) * PageSize)
	for len(pages) > 0 {
		n := 1
		for n < len(pages) && pages[n]-pages[n-1] <= 1 {
			n++
		}
		first, last := uint64(pages[0]), uint64(pages[n-1])
		if err := d.discard(guestmem.Addr(first*PageSize), (last-first+1)*PageSize); err != nil {
			return err
		}
		pages = pages[n:]
	}
	return nil
}

func (d *Device) discard(a guestmem.Addr, n uint64) error {
	done, err := d.mem.Discard(a, n)
	d.discarded.Add(done)
	return err
}

// deflate takes note that the driver uses pages again. They come back as they
// are touched.
func (d *Device) deflate(ctx context.Context, q *virtq.Queue) error {
	for {
		c, err := q.Next(ctx)
		if err != nil {
			return err
		}
		if err := q.Push(c, 0); err != nil {
			return err
		}
	}
}

// report discards the pages that the driver reports as free: the room of a chain
// is the pages themselves (section 5.5.6.7). The driver waits with their use
// until the chain is back, and finds them zeroed or as they were: pages that it
// keeps filled with a pattern other than zeros are left alone.
func (d *Device) report(ctx context.Context, q *virtq.Queue, poison bool) error {
	for {
		c, err := q.Next(ctx)
		if err != nil {
			return err
		}
		keep := poison && d.poison() != 0
		err = c.Writer.Pieces(func(p []byte) error {
			d.reported.Add(uint64(len(p)))
			a, ok := d.mem.Locate(p)
			if keep || !ok {
				return ctx.Err()
			}
			return errors.Join(d.discard(a, uint64(len(p))), ctx.Err())
		})
		if err != nil {
			return err
		}
		if err := q.Push(c, 0); err != nil {
			return err
		}
	}
}

var (
	_ virtio.Device         = (*Device)(nil)
	_ virtio.ConfigWriter   = (*Device)(nil)
	_ virtio.ConfigNotifier = (*Device)(nil)
	_ Memory                = (*guestmem.Memory)(nil)
)
