// Package blk is the virtio block device (VIRTIO 1.2, section 5.2): a disk in
// the guest that is a raw image or a block device of the host.
//
// It has as many queues as it is asked for; requests of all of them are served at
// the same time. What a flush makes durable are the writes that were answered
// before it was made, whatever their queues: each was in the host's file by then.
package blk

import (
	"context"
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
// goroutines at once. One that moves several buffers by one call is a
// virtq.VectorReaderAt and VectorWriterAt too.
type Disk interface {
	io.ReaderAt
	Size() int64 // bytes, whole sectors
}

// Syncer is a disk that keeps what was written in a cache until Sync.
type Syncer interface{ Sync() error }

// Discarder is a disk that can do without some of its bytes, and zero them without
// being sent zeros. A disk that can't for now fails with errors.ErrUnsupported.
type Discarder interface {
	// Discard gives up the n bytes at off; what they read as is anything.
	Discard(off, n int64) error
	// Zero makes the n bytes at off zero, and gives up their room if it may.
	Zero(off, n int64, unmap bool) error
}

// Blocked is a disk that is best accessed by blocks larger than a sector.
type Blocked interface {
	BlockSize() int // bytes, a power of two
}

// Config is a disk and how the guest sees it.
type Config struct {
	Disk     Disk
	ReadOnly bool   // also when the disk could be written
	Serial   string // at most 20 bytes, the disk's id in the guest
	Queues   int    // 1 to MaxQueues; 0 for one
	Log      *slog.Logger
}

// MaxQueues bounds the queues of a disk: each costs the host two descriptors, and
// more of them than a host's disk has lanes bring nothing.
const MaxQueues = 8

// SectorSize is the unit of virtio's sector numbers and capacities.
const SectorSize = 512

const (
	queueSize = 256
	// segMax leaves room in the queue for a request's header and status.
	segMax = queueSize - 2

	// inFlight bounds the requests that are being served at once, over all queues:
	// a slow read does not hold up those behind it, and a guest can't make the host
	// wait for more.
	inFlight = 16
)

// Device is a disk.
type Device struct {
	cfg       Config
	writer    io.WriterAt // nil if the guest may not write
	discarder Discarder   // nil if the guest may not, or the disk can't
	sectors   uint64

	features     atomic.Uint64 // as negotiated
	writeThrough atomic.Bool   // the driver's choice by CONFIG_WCE

	stats counters
	mu    sync.Mutex
	quiet time.Time // until when nothing is logged
}

// New makes a device.
func New(cfg Config) *Device {
	cfg.Queues = min(max(cfg.Queues, 1), MaxQueues)
	if cfg.Log == nil {
		cfg.Log = slog.Default()
	}
	d := &Device{cfg: cfg, sectors: uint64(max(cfg.Disk.Size(), 0)) / SectorSize}
	if w, ok := cfg.Disk.(io.WriterAt); ok && !cfg.ReadOnly {
		d.writer = w
		d.discarder, _ = cfg.Disk.(Discarder)
	}
	return d
}

// Info implements virtio.Device.
func (d *Device) Info() virtio.Info {
	return virtio.Info{
		ID: virtio.IDBlock, Name: "blk", Features: d.offered(),
		QueueMax: slices.Repeat([]uint16{queueSize}, d.cfg.Queues),
	}
}

// Run implements virtio.Device.
func (d *Device) Run(ctx context.Context, features uint64, queues []*virtq.Queue) error {
	d.features.Store(features)
	defer d.writeThrough.Store(false) // the choice ends with the reset
	var loops []func(context.Context) error
	for _, q := range queues {
		if q != nil {
			serve := func(ctx context.Context, c *virtq.Chain) error { return d.serve(ctx, q, c) }
			loops = append(loops, virtio.Workers(q, max(inFlight/len(queues), 1),
				func() func(context.Context, *virtq.Chain) error { return serve })...)
		}
	}
	return virtio.Serve(ctx, loops...)
}
