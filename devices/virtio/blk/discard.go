package blk

import (
	"context"
	"encoding/binary"
	"errors"
	"io"

	"warder/devices/virtio/virtq"
)

// struct virtio_blk_discard_write_zeroes, section 5.2.6.
const (
	segmentSize  = 16
	segmentUnmap = 1 << 0
)

type segment struct {
	off, n int64 // bytes
	unmap  bool
}

// discard is a request to discard or to zero. Nothing is done unless all of it is
// in order.
func (d *Device) discard(ctx context.Context, kind uint32, c *virtq.Chain) uint8 {
	segments, status := d.segments(kind, c.Reader)
	if status != statusOK {
		return status
	}
	for _, s := range segments {
		var err error
		what := "discard"
		if kind == typeDiscard {
			err = c.Do(func() error { return d.discarder.Discard(s.off, s.n) })
			if errors.Is(err, errors.ErrUnsupported) {
				err = nil // a disk need not do it, section 5.2.6.2
			}
			d.stats.discarded.Add(uint64(s.n))
		} else {
			what = "write zeroes"
			err = d.zero(ctx, s, c)
		}
		if err != nil {
			return d.outcome(what, s.off, err)
		}
	}
	if d.durable() {
		return d.outcome("sync", 0, d.sync())
	}
	return statusOK
}

// segments are the parts of the disk that a request is about.
func (d *Device) segments(kind uint32, r *virtq.Reader) (list []segment, status uint8) {
	maxSectors, maxSegs := uint32(maxDiscard), maxDiscardSegs
	if kind == typeZeroes {
		maxSectors, maxSegs = maxZeroes, maxZeroesSegs
	}
	if n := r.Len(); n == 0 || n%segmentSize != 0 || n/segmentSize > maxSegs {
		return nil, statusIOErr
	}
	for r.Len() > 0 {
		var b [segmentSize]byte
		if _, err := io.ReadFull(r, b[:]); err != nil {
			return nil, statusIOErr
		}
		sectors, flags := binary.LittleEndian.Uint32(b[8:]), binary.LittleEndian.Uint32(b[12:])
		if flags&^segmentUnmap != 0 || kind == typeDiscard && flags != 0 {
			return nil, statusUnsupported // as section 5.2.6.2 has it
		}
		if sectors > maxSectors {
			return nil, statusIOErr
		}
		off, ok := d.extent(binary.LittleEndian.Uint64(b[0:]), int(sectors)*SectorSize)
		if !ok {
			return nil, statusIOErr
		}
		list = append(list, segment{off, int64(sectors) * SectorSize, flags&segmentUnmap != 0})
	}
	return list, statusOK
}

var zeros [64 << 10]byte

// zero makes a segment zero, by writing it if the disk has no better way.
func (d *Device) zero(ctx context.Context, s segment, c *virtq.Chain) error {
	d.stats.zeroed.Add(uint64(s.n))
	err := c.Do(func() error { return d.discarder.Zero(s.off, s.n, s.unmap) })
	if !errors.Is(err, errors.ErrUnsupported) {
		return err
	}
	_, err = inPieces(ctx, s.off, s.n, func(off, n int64) (done int64, err error) {
		err = c.Do(func() error {
			m, err := d.writer.WriteAt(zeros[:min(n, int64(len(zeros)))], off)
			done = int64(m)
			return err
		})
		return done, err
	})
	return err
}
