// Package blk is the virtio block device (VIRTIO 1.2, section 5.2): a disk in
// the guest that is a raw image or a block device of the host.
package blk

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"warder/devices/virtio"
	"warder/devices/virtio/virtq"
)

// Disk is what holds the bytes. It can be written if it is an io.WriterAt, and
// made durable if it is a Syncer. Its methods are called from several
// goroutines at once.
type Disk interface {
	io.ReaderAt
	Size() int64 // bytes, whole sectors
}

// Syncer is a disk that keeps what was written in a cache until Sync.
type Syncer interface{ Sync() error }

// Config is a disk and how the guest sees it.
type Config struct {
	Disk     Disk
	ReadOnly bool   // also when the disk could be written
	Serial   string // at most 20 bytes, the disk's id in the guest
	Log      *slog.Logger
}

// SectorSize is the unit of virtio's sector numbers and capacities.
const SectorSize = 512

// Features and the configuration's layout, sections 5.2.3 and 5.2.4.
const (
	featureSegMax   = 1 << 2 // VIRTIO_BLK_F_SEG_MAX
	featureReadOnly = 1 << 5 // VIRTIO_BLK_F_RO
	featureBlkSize  = 1 << 6 // VIRTIO_BLK_F_BLK_SIZE
	featureFlush    = 1 << 9 // VIRTIO_BLK_F_FLUSH

	configCapacity = 0
	configSegMax   = 12
	configBlkSize  = 20
	configSize     = 24

	queueSize = 256
	// segMax leaves room in the queue for a request's header and status.
	segMax = queueSize - 2
)

// Requests, section 5.2.6.
const (
	typeIn    = 0
	typeOut   = 1
	typeFlush = 4
	typeGetID = 8

	statusOK          = 0
	statusIOErr       = 1
	statusUnsupported = 2

	headerSize = 16
	idSize     = 20
)

// inFlight bounds the requests that are being served at once: a slow read does
// not hold up those behind it, and a guest can't make the host wait for more.
const inFlight = 16

// Device is a disk.
type Device struct {
	cfg     Config
	writer  io.WriterAt // nil if the guest may not write
	sectors uint64
	durable atomic.Bool // each write is, for a driver that does not flush (section 5.2.6.2)
	stats   struct{ read, written, errors atomic.Uint64 }

	mu     sync.Mutex
	logged time.Time
}

// New makes a device.
func New(cfg Config) *Device {
	d := &Device{cfg: cfg, sectors: uint64(max(cfg.Disk.Size(), 0)) / SectorSize}
	if w, ok := cfg.Disk.(io.WriterAt); ok && !cfg.ReadOnly {
		d.writer = w
	}
	if d.cfg.Log == nil {
		d.cfg.Log = slog.Default()
	}
	return d
}

// Stats counts bytes moved and requests that failed on the host.
type Stats struct{ Read, Written, Errors uint64 }

// Stats may be called at any time.
func (d *Device) Stats() Stats {
	return Stats{d.stats.read.Load(), d.stats.written.Load(), d.stats.errors.Load()}
}

// Info implements virtio.Device.
func (d *Device) Info() virtio.Info {
	features := uint64(featureSegMax | featureBlkSize)
	if d.writer == nil {
		features |= featureReadOnly
	} else if _, ok := d.cfg.Disk.(Syncer); ok {
		features |= featureFlush
	}
	return virtio.Info{ID: virtio.IDBlock, Name: "blk", Features: features, QueueMax: []uint16{queueSize}}
}

// ReadConfig implements virtio.Device.
func (d *Device) ReadConfig(p []byte, off uint64) {
	var config [configSize]byte
	binary.LittleEndian.PutUint64(config[configCapacity:], d.sectors)
	binary.LittleEndian.PutUint32(config[configSegMax:], segMax)
	binary.LittleEndian.PutUint32(config[configBlkSize:], SectorSize)
	clear(p)
	if off < configSize {
		copy(p, config[off:])
	}
}

// Run implements virtio.Device.
func (d *Device) Run(ctx context.Context, features uint64, queues []*virtq.Queue) error {
	q := queues[0]
	if q == nil {
		return nil
	}
	d.durable.Store(features&featureFlush == 0)
	requests := make(chan *virtq.Chain)
	loops := slices.Repeat([]func(context.Context) error{func(ctx context.Context) error {
		for c := range requests {
			if err := d.serve(ctx, q, c); err != nil {
				return err
			}
		}
		return nil
	}}, inFlight)
	return virtio.Serve(ctx, append(loops, func(ctx context.Context) error {
		defer close(requests)
		for {
			c, err := q.Next(ctx)
			if err != nil {
				return err
			}
			select {
			case requests <- c:
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		}
	})...)
}

// serve answers one request. Its error is one that the device can't go on from:
// what the host's disk says is an answer, not an error.
func (d *Device) serve(ctx context.Context, q *virtq.Queue, c *virtq.Chain) error {
	var header [headerSize]byte
	if _, err := io.ReadFull(c.Reader, header[:]); err != nil {
		return fmt.Errorf("%w: request without a header", virtq.ErrMalformed)
	}
	status := c.Writer.SplitTail(1)
	if status == nil {
		return fmt.Errorf("%w: request without room for its status", virtq.ErrMalformed)
	}
	code := d.execute(ctx, binary.LittleEndian.Uint32(header[0:]), binary.LittleEndian.Uint64(header[8:]), c)
	if _, err := status.Write([]byte{code}); err != nil {
		return err
	}
	written := c.Writer.Written()
	if c.Writer.Len() == 0 {
		written++ // the status follows what was written, without a gap
	}
	return q.Push(c, uint32(written))
}

// execute carries out a request and gives its status.
func (d *Device) execute(ctx context.Context, kind uint32, sector uint64, c *virtq.Chain) uint8 {
	switch kind {
	case typeIn:
		off, ok := d.extent(sector, c.Writer.Len())
		if !ok {
			return statusIOErr
		}
		n, err := inPieces(ctx, off, c.Writer.Len(), func(off int64, n int) (int, error) {
			return c.Writer.CopyAt(d.cfg.Disk, off, n)
		})
		d.stats.read.Add(uint64(n))
		return d.outcome("read", off, err)
	case typeOut:
		off, ok := d.extent(sector, c.Reader.Len())
		if !ok || d.writer == nil {
			return statusIOErr
		}
		n, err := inPieces(ctx, off, c.Reader.Len(), func(off int64, n int) (int, error) {
			return c.Reader.CopyAt(d.writer, off, n)
		})
		d.stats.written.Add(uint64(n))
		if err == nil && d.durable.Load() {
			err = d.sync()
		}
		return d.outcome("write", off, err)
	case typeFlush:
		if d.Info().Features&featureFlush == 0 {
			return statusUnsupported
		}
		return d.outcome("flush", 0, d.sync())
	case typeGetID:
		var id [idSize]byte
		copy(id[:], d.cfg.Serial)
		if _, err := c.Writer.Write(id[:min(idSize, c.Writer.Len())]); err != nil {
			return statusIOErr
		}
		return statusOK
	}
	return statusUnsupported
}

// sync makes durable what has been written. A flush needs no more of an order than
// this: a guest waits for the writes that it wants flushed.
func (d *Device) sync() error {
	if s, ok := d.cfg.Disk.(Syncer); ok {
		return s.Sync()
	}
	return nil
}

// piece is how much is moved between two looks at whether the device is to stop.
const piece = 1 << 20

// inPieces moves n bytes at off of the disk, or fewer if ctx ends: one request can
// name the same guest memory again and again and ask for more than the host moves
// in minutes, for which neither a reset nor the end of the machine must wait.
func inPieces(ctx context.Context, off int64, n int, move func(off int64, n int) (int, error)) (done int, err error) {
	for done < n {
		if err := ctx.Err(); err != nil {
			return done, err
		}
		m, err := move(off+int64(done), min(piece, n-done))
		done += m
		if err != nil {
			return done, err
		}
	}
	return done, nil
}

// extent is where n bytes from sector are on the disk, if they are whole
// sectors of it.
func (d *Device) extent(sector uint64, n int) (off int64, ok bool) {
	if n%SectorSize != 0 || sector > d.sectors || uint64(n/SectorSize) > d.sectors-sector {
		return 0, false
	}
	return int64(sector * SectorSize), true
}

// quiet is how long a disk that has been complained of is not again.
const quiet = 10 * time.Second

// outcome turns what the host's disk said into a status.
func (d *Device) outcome(what string, off int64, err error) uint8 {
	switch {
	case err == nil:
		return statusOK
	case errors.Is(err, context.Canceled):
		return statusIOErr // nobody waits for the answer
	}
	d.stats.errors.Add(1)
	d.mu.Lock()
	defer d.mu.Unlock()
	if now := time.Now(); now.Sub(d.logged) >= quiet {
		d.logged = now
		d.cfg.Log.Warn("disk error on the host, passed to the guest", "operation", what, "offset", off, "err", err)
	}
	return statusIOErr
}
