package lan

import (
	"sync"

	"warder/secmon/lan/flow"
	"warder/secmon/lan/packet"
)

// Later fragments of an IP packet show no ports. The first one does; where it passes,
// those that follow are taken for frames of its flow.

const (
	// maxPieces is how many packets of a port may be on their way in fragments.
	maxPieces = 64
	// pieceTime is for how long the first fragment lets others pass, ns. A receiver
	// waits for 60 s (RFC 8200, 4.5), Linux for 30.
	pieceTime = 30 * second
)

// piece is a packet of which the first fragment has passed.
type piece struct {
	src, dst packet.Addr
	id       uint32
	vlan     uint16
	protocol uint8
}

func pieceOf(s *Seen) piece {
	h := &s.Headers
	return piece{h.Src, h.Dst, h.FragmentID, s.VLAN, h.Protocol}
}

// pieces are those of a port, the oldest of which gives way.
type pieces struct {
	mu   sync.Mutex
	list [maxPieces]expected
	next int
}

type expected struct {
	piece
	key     flow.Key
	forward bool
	when    int64 // 0 for none
}

func (p *pieces) expect(s *Seen, key flow.Key, forward bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.list[p.next] = expected{pieceOf(s), key, forward, s.Time}
	p.next = (p.next + 1) % maxPieces
}

func (p *pieces) find(s *Seen) (key flow.Key, forward, ok bool) {
	want := pieceOf(s)
	p.mu.Lock()
	defer p.mu.Unlock()
	for i := range p.list {
		if e := &p.list[i]; e.when != 0 && e.piece == want && s.Time-e.when < pieceTime {
			return e.key, e.forward, true
		}
	}
	return key, false, false
}

// continues is converse for a fragment that shows nothing of its flow.
func (x *transit) continues(t *table) Reason {
	key, forward, ok := x.from.pieces.find(&x.seen[0])
	if !ok {
		return Policy
	}
	return x.pass(t, &key, forward)
}
