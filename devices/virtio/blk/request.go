package blk

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"

	"warder/devices/virtio/virtq"
)

// Requests, section 5.2.6.
const (
	typeIn      = 0
	typeOut     = 1
	typeFlush   = 4
	typeGetID   = 8
	typeDiscard = 11
	typeZeroes  = 13

	statusOK          = 0
	statusIOErr       = 1
	statusUnsupported = 2

	headerSize = 16
	idSize     = 20
)

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
		return d.read(ctx, sector, c)
	case typeOut:
		return d.write(ctx, sector, c)
	case typeFlush:
		if d.offered()&featureFlush == 0 {
			return statusUnsupported
		}
		d.stats.flushes.Add(1)
		return d.outcome("flush", 0, d.sync())
	case typeGetID:
		var id [idSize]byte
		copy(id[:], d.cfg.Serial)
		if _, err := c.Writer.Write(id[:min(idSize, c.Writer.Len())]); err != nil {
			return statusIOErr
		}
		return statusOK
	case typeDiscard, typeZeroes:
		if d.discarder == nil {
			return statusUnsupported
		}
		return d.discard(ctx, kind, c)
	}
	return statusUnsupported
}

func (d *Device) read(ctx context.Context, sector uint64, c *virtq.Chain) uint8 {
	off, ok := d.extent(sector, c.Writer.Len())
	if !ok {
		return statusIOErr
	}
	n, err := inPieces(ctx, off, int64(c.Writer.Len()), func(off, n int64) (int64, error) {
		done, err := c.Writer.CopyAt(d.cfg.Disk, off, int(n))
		return int64(done), err
	})
	d.stats.read.Add(uint64(n))
	return d.outcome("read", off, err)
}

func (d *Device) write(ctx context.Context, sector uint64, c *virtq.Chain) uint8 {
	off, ok := d.extent(sector, c.Reader.Len())
	if !ok || d.writer == nil {
		return statusIOErr
	}
	n, err := inPieces(ctx, off, int64(c.Reader.Len()), func(off, n int64) (int64, error) {
		done, err := c.Reader.CopyAt(d.writer, off, int(n))
		return int64(done), err
	})
	d.stats.written.Add(uint64(n))
	if err == nil && d.durable() {
		err = d.sync()
	}
	return d.outcome("write", off, err)
}

// sync makes durable what has been written.
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
func inPieces(ctx context.Context, off, n int64, move func(off, n int64) (int64, error)) (done int64, err error) {
	for done < n {
		if err := ctx.Err(); err != nil {
			return done, err
		}
		m, err := move(off+done, min(piece, n-done))
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
