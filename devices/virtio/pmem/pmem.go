// Package pmem is the virtio persistent memory device (VIRTIO 1.2, section 5.19):
// a file of the host that the guest has as memory, /dev/pmem0 and on. A guest reads
// it where it is, without a copy in its own page cache, and machines that read
// the same file share its pages in the host's.
//
// Who makes the machine puts the file into the guest's physical address space; the
// device says where it is and makes durable what was written to it.
package pmem

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"warder/devices/guestmem"
	"warder/devices/virtio"
	"warder/devices/virtio/virtq"
)

const (
	queueSize = 64

	typeFlush   = 0 // VIRTIO_PMEM_REQ_TYPE_FLUSH, section 5.19.6
	requestSize = 4

	done   = 0
	failed = 0xffff_ffff // section 5.19.6.2: "-1 on failure", le32
)

// Config is where the memory is and what backs it.
type Config struct {
	Base guestmem.Addr
	Size uint64 // bytes
	// Sync makes durable what the guest has written; nil for memory that it only
	// reads.
	Sync func() error
	Log  *slog.Logger
}

// Device is persistent memory.
type Device struct {
	cfg             Config
	flushes, errors atomic.Uint64

	mu    sync.Mutex
	quiet time.Time // until when nothing is logged
}

// New makes a device.
func New(cfg Config) *Device {
	if cfg.Log == nil {
		cfg.Log = slog.Default()
	}
	return &Device{cfg: cfg}
}

// Stats counts what the guest had made durable, and how often the host could not.
type Stats struct{ Flushes, Errors uint64 }

// Stats may be called at any time.
func (d *Device) Stats() Stats { return Stats{d.flushes.Load(), d.errors.Load()} }

// Info implements virtio.Device.
func (d *Device) Info() virtio.Info {
	return virtio.Info{ID: virtio.IDPmem, Name: "pmem", QueueMax: []uint16{queueSize}}
}

// ReadConfig implements virtio.Device: where the memory starts, and its size.
func (d *Device) ReadConfig(p []byte, off uint64) {
	config := binary.LittleEndian.AppendUint64(nil, uint64(d.cfg.Base))
	config = binary.LittleEndian.AppendUint64(config, d.cfg.Size)
	clear(p)
	if off < uint64(len(config)) {
		copy(p, config[off:])
	}
}

// Run implements virtio.Device. Requests are answered one after the other: each
// flush makes all of the memory durable, so there is no use in several at once.
func (d *Device) Run(ctx context.Context, _ uint64, queues []*virtq.Queue) error {
	q := queues[0]
	if q == nil {
		return nil
	}
	for {
		c, err := q.Next(ctx)
		if err != nil {
			return err
		}
		if err := d.serve(c); err != nil {
			return err
		}
		if err := q.Push(c, uint32(c.Writer.Written())); err != nil {
			return err
		}
	}
}

func (d *Device) serve(c *virtq.Chain) error {
	var request [requestSize]byte
	if _, err := io.ReadFull(c.Reader, request[:]); err != nil {
		return fmt.Errorf("%w: request without a type", virtq.ErrMalformed)
	}
	result := uint32(failed)
	if binary.LittleEndian.Uint32(request[:]) == typeFlush {
		result = d.flush()
	}
	_, err := c.Writer.Write(binary.LittleEndian.AppendUint32(nil, result))
	if errors.Is(err, virtq.ErrShort) {
		return fmt.Errorf("%w: request without room for its result", virtq.ErrMalformed)
	}
	return err
}

// quietTime is how long memory that has been complained of is not again.
const quietTime = 10 * time.Second

func (d *Device) flush() uint32 {
	d.flushes.Add(1)
	if d.cfg.Sync == nil {
		return done // nothing was written
	}
	err := d.cfg.Sync()
	if err == nil {
		return done
	}
	d.errors.Add(1)
	d.mu.Lock()
	defer d.mu.Unlock()
	if now := time.Now(); now.After(d.quiet) {
		d.quiet = now.Add(quietTime)
		d.cfg.Log.Warn("persistent memory could not be written to its file, the guest is told", "err", err)
	}
	return failed
}

var _ virtio.Device = (*Device)(nil)
