package monitor

import (
	"context"
	"sync"
	"sync/atomic"

	"warder/devices/virtio/vsock"
	"warder/secmon/lan"
	"warder/secmon/lan/filter"
	"warder/secmon/lan/packet"
	"warder/secmon/lan/stream"
)

// Captured is a copy of a frame.
type Captured struct {
	Time    int64  // nanoseconds since 1970
	At      string // the port that sent it; of vsock the VM
	From    string // the port that sent it; of vsock the VM or the host
	To      string // the port that it is for, "" if for several or nobody
	Vsock   bool   // a packet of vsock, with the header of the kernel's vsockmon
	VLAN    uint16
	Refused lan.Reason
	Data    []byte // as much as was asked for
	Len     int    // of the frame
}

// Bounds of one tap, whose reader may be slow.
const (
	maxTapFrames = 4096
	maxTapBytes  = 16 << 20
	maxTaps      = 16
)

// Tap is somebody who gets copies of frames.
type Tap struct {
	want    *filter.Filter
	snap    int
	frames  chan Captured
	waiting atomic.Int64 // bytes
	lost    atomic.Uint64
}

// taps are those there are. A frame looks at one word.
type taps struct {
	mu   sync.Mutex
	list atomic.Pointer[[]*Tap]
}

// Capture has the frames copied that a filter wants, at most snap bytes of each, until
// [Monitor.Release]. It is nil when there are too many captures already.
func (m *Monitor) Capture(want *filter.Filter, snap int) *Tap {
	t := &Tap{want: want, snap: snap, frames: make(chan Captured, maxTapFrames)}
	if !m.taps.change(func(list []*Tap) []*Tap { return append(list, t) }) {
		return nil
	}
	return t
}

// Release ends a capture.
func (m *Monitor) Release(t *Tap) {
	m.taps.change(func(list []*Tap) []*Tap {
		var rest []*Tap
		for _, x := range list {
			if x != t {
				rest = append(rest, x)
			}
		}
		return rest
	})
}

func (s *taps) change(f func([]*Tap) []*Tap) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	var list []*Tap
	if old := s.list.Load(); old != nil {
		list = append(list, *old...)
	}
	list = f(list)
	if len(list) > maxTaps {
		return false
	}
	if len(list) == 0 {
		s.list.Store(nil)
	} else {
		s.list.Store(&list)
	}
	return true
}

// offer gives a frame to those who want it.
func (s *taps) offer(t *turn) {
	list := s.list.Load()
	if list == nil {
		return
	}
	for _, x := range *list {
		x.take(t)
	}
}

func (x *Tap) take(t *turn) {
	from, to := t.s.From.Name(), ""
	if t.s.To != nil {
		to = t.s.To.Name()
	}
	f, h := t.s.Frame, *t.h // a copy, so that s need not be on the heap
	if !x.want.Match(filter.Frame{Headers: &h, VLAN: t.s.VLAN, Len: f.Len, From: from, To: to, Refused: t.s.Refused != lan.None}) {
		return
	}
	c := Captured{Time: t.now, At: from, From: from, To: to, VLAN: t.s.VLAN, Refused: t.s.Refused, Len: f.Len}
	x.keep(c, func(dst []byte, n int) []byte { return stream.Pieces{Head: f.Head, Body: f.Body}.Append(dst, 0, n) })
}

// offerVsock gives a packet of vsock to those who want it.
func (s *taps) offerVsock(l *line, p *vsock.Packet, now int64) {
	list := s.list.Load()
	if list == nil {
		return
	}
	from, to := l.vm, hostName
	if p.SourceCID == vsock.HostCID {
		from, to = to, from
	}
	size := vsockmonSize + len(p.Header) + len(p.Payload)
	for _, x := range *list {
		h := packet.Headers{Fault: packet.ShortEthernet} // it has no addresses of Ethernet
		if x.want.Match(filter.Frame{Headers: &h, Len: size, From: from, To: to, Vsock: true}) {
			x.keep(Captured{Time: now, At: l.vm, From: from, To: to, Vsock: true, Len: size}, func(dst []byte, n int) []byte { return vsockmon(dst, p, n) })
		}
	}
}

// keep has what somebody wants wait for its reader; data appends the first bytes of it.
func (x *Tap) keep(c Captured, data func(dst []byte, n int) []byte) {
	n := min(c.Len, x.snap)
	if x.waiting.Add(int64(n)) > maxTapBytes {
		x.waiting.Add(-int64(n))
		x.lost.Add(1)
		return
	}
	c.Data = data(make([]byte, 0, n), n)
	select {
	case x.frames <- c:
	default:
		x.waiting.Add(-int64(n))
		x.lost.Add(1)
	}
}

// Next takes the next frame, waiting for one until ctx ends.
func (x *Tap) Next(ctx context.Context) (Captured, error) {
	select {
	case c := <-x.frames:
		x.waiting.Add(-int64(len(c.Data)))
		return c, nil
	case <-ctx.Done():
		return Captured{}, ctx.Err()
	}
}

// Waits reports whether a frame waits to be taken.
func (x *Tap) Waits() bool { return len(x.frames) > 0 }

// Lost is how many frames there was no room for.
func (x *Tap) Lost() uint64 { return x.lost.Load() }
