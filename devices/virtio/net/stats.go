package net

import "sync/atomic"

// Stats counts what a device has done since it was made, as the guest sees it.
type Stats struct {
	Sent, SentBytes         uint64 // frames from the guest
	Received, ReceivedBytes uint64 // frames for the guest, before they are cut

	// What was dropped, in frames.
	Malformed uint64 // of the guest's, which their headers do not fit
	SentDown  uint64 // of the guest's, while the link was down
	Down      uint64 // for the guest, while the link was down or no driver there
	Filtered  uint64 // for the guest, not to an address that it wants
	NoBuffer  uint64 // for the guest, longer than its buffers are

	// Segments is what was cut for a guest that does not take whole frames.
	Segments uint64
}

// Each queue counts by itself, so that no two share a cache line.
type (
	sendCounters struct {
		frames, bytes, malformed, down atomic.Uint64
		_                              [32]byte
	}
	receiveCounters struct {
		frames, bytes, down, filtered, noBuffer, cut atomic.Uint64
		_                                            [16]byte
	}
)

// Stats may be called at any time.
func (d *Device) Stats() (s Stats) {
	for _, t := range d.tx {
		s.Sent += t.stats.frames.Load()
		s.SentBytes += t.stats.bytes.Load()
		s.Malformed += t.stats.malformed.Load()
		s.SentDown += t.stats.down.Load()
	}
	for _, r := range d.rx {
		s.Received += r.stats.frames.Load()
		s.ReceivedBytes += r.stats.bytes.Load()
		s.Down += r.stats.down.Load()
		s.Filtered += r.stats.filtered.Load()
		s.NoBuffer += r.stats.noBuffer.Load()
		s.Segments += r.stats.cut.Load()
	}
	return s
}
