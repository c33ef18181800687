package balloon

import (
	"context"
	"encoding/binary"
	"fmt"

	"warder/devices/virtio"
	"warder/devices/virtio/virtq"
)

// Stats is what a guest says of its memory, section 5.5.6.4 and, from OOMKills
// on, include/uapi/linux/virtio_balloon.h. What it does not say is 0. Sizes are
// in bytes, the rest counts since the guest's start.
type Stats struct {
	SwapIn, SwapOut          uint64 // bytes swapped
	MajorFaults, MinorFaults uint64
	Free                     uint64 // not used for anything
	Total                    uint64
	Available                uint64 // without swapping, as in /proc/meminfo
	Caches                   uint64 // that the kernel can reclaim
	HugePages, HugePageFails uint64 // allocations
	OOMKills                 uint64
	AllocStalls              uint64 // allocations that had to reclaim by themselves
	AsyncScans, DirectScans  uint64 // pages looked at for reclaim
	AsyncReclaims            uint64 // pages
	DirectReclaims           uint64 // pages
}

// byTag are the fields in the order of the tags by which drivers name them.
func (s *Stats) byTag() []*uint64 {
	return []*uint64{
		&s.SwapIn, &s.SwapOut, &s.MajorFaults, &s.MinorFaults, &s.Free, &s.Total, &s.Available, &s.Caches,
		&s.HugePages, &s.HugePageFails, &s.OOMKills, &s.AllocStalls, &s.AsyncScans, &s.DirectScans,
		&s.AsyncReclaims, &s.DirectReclaims,
	}
}

// A statistic is a tag of 16 bits and a value of 64, without padding.
const (
	statSize = 10
	// maxStats bounds how many are read: a driver sends each once.
	maxStats = 64
)

// readStats reads what the driver sent; the last of a tag counts.
func readStats(r *virtq.Reader) (s Stats, err error) {
	fields := s.byTag()
	var b [statSize]byte
	for range maxStats {
		if r.Len() < statSize {
			return s, nil
		}
		if _, err := r.Read(b[:]); err != nil {
			return s, err
		}
		if tag := int(binary.LittleEndian.Uint16(b[:])); tag < len(fields) {
			*fields[tag] = binary.LittleEndian.Uint64(b[2:])
		}
	}
	return s, nil
}

// A poll is somebody who waits for fresh statistics.
type poll chan Stats

// Stats asks the driver for its statistics and waits until they are there or ctx
// ends: a guest may have no driver, or one that does not answer. A guest can lie.
func (d *Device) Stats(ctx context.Context) (Stats, error) {
	for {
		p := make(poll, 1)
		select {
		case d.polls <- p:
		case <-ctx.Done():
			return Stats{}, fmt.Errorf("balloon: no driver in the guest that gives statistics: %w", ctx.Err())
		}
		select {
		case s, ok := <-p:
			if ok {
				return s, nil
			}
			// The driver was reset meanwhile; there may be another.
		case <-ctx.Done():
			return Stats{}, fmt.Errorf("balloon: the guest's driver gives no statistics: %w", ctx.Err())
		}
	}
}

// serveStats holds the driver's one buffer until somebody asks, gives it back,
// and reads the answer from the buffer that the driver sends then (section
// 5.5.6.3).
func (d *Device) serveStats(ctx context.Context, q *virtq.Queue) error {
	var waiting poll
	defer func() {
		if waiting != nil {
			close(waiting)
		}
	}()
	for {
		c, err := q.Next(ctx)
		if err != nil {
			return err
		}
		s, err := readStats(c.Reader)
		if err != nil {
			return err
		}
		if waiting != nil {
			waiting <- s // has room for the one
			waiting = nil
		}
		if waiting, err = virtio.Await(ctx, d.polls); err != nil {
			// The buffer goes back: if this queue is served again, the driver
			// has to be asked again.
			return q.Push(c, 0)
		}
		if err := q.Push(c, 0); err != nil {
			return err
		}
	}
}
