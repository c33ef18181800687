package lan

import (
	"hash/maphash"
	"math/bits"
	"net/netip"
	"sync"
	"sync/atomic"
)

// A flow is a conversation that one port began with another, so that answers to it
// pass.
//
// The table is of buckets with a few places each. When all places of a bucket are
// taken, the oldest flow of the port that has most of them gives way: a port that
// begins very many flows ends its own.
type flow struct {
	key        flowKey
	id         uint64 // 0: the place is free
	from, to   *Port
	last       int64 // when a frame passed
	generation uint32
	reversed   bool // it began from key.b
	replied    bool
	state      flowState
}

// flowKey is the same for both directions: a is the lesser end.
type flowKey struct {
	a, b         [16]byte
	aPort, bPort uint16
	vlan         uint16
	proto        uint8
	v6           bool
	fragment     bool // ports are the number of a packet whose fragments are to pass
}

type flowState uint8

const (
	flowOpen    flowState = 0
	flowFIN     flowState = 1 << 0 // of the port that began it
	flowFINBack flowState = 1 << 1
	flowReset   flowState = 1 << 2
	flowCut     flowState = 1 << 3
)

func (s flowState) closed() bool {
	return s&flowReset != 0 || s&(flowFIN|flowFINBack) == flowFIN|flowFINBack
}

// For how long a flow is known in which nothing passes, ns.
const (
	idleTCP    = 2 * 3600 * second
	idleNewTCP = 120 * second // nobody has answered, or it is closed
	idleUDP    = 180 * second
	idleOther  = 60 * second
	idleCut    = 600 * second
	idlePacket = 30 * second // for its fragments (RFC 8200, 4.5: 60 s to be put together)
)

func (f *flow) alive(now int64) bool {
	if f.id == 0 {
		return false
	}
	idle := int64(idleOther)
	switch {
	case f.state&flowCut != 0:
		idle = idleCut
	case f.key.fragment:
		idle = idlePacket
	case f.key.proto == TCP && f.replied && !f.state.closed():
		idle = idleTCP
	case f.key.proto == TCP:
		idle = idleNewTCP
	case f.key.proto == UDP:
		idle = idleUDP
	}
	return now-f.last < idle
}

const flowWays = 8

type flowBucket struct {
	mu    sync.Mutex
	flows [flowWays]flow
}

type flows struct {
	seed    maphash.Seed
	buckets []flowBucket
	next    atomic.Uint64
}

func newFlows(n int) *flows {
	n = max(n/flowWays, 1)
	n = 1 << bits.Len(uint(n-1))
	return &flows{seed: maphash.MakeSeed(), buckets: make([]flowBucket, n)}
}

// keyOf is the key of pkt's flow, and whether pkt goes from key.b to key.a.
func keyOf(pkt *Packet, vlan uint16) (k flowKey, reversed bool) {
	k = flowKey{
		a: pkt.Source.As16(), b: pkt.Destination.As16(), aPort: pkt.SourcePort, bPort: pkt.DestinationPort,
		vlan: vlan, proto: pkt.Proto, v6: pkt.Kind == IPv6,
	}
	if c := pkt.Source.Compare(pkt.Destination); c > 0 || c == 0 && k.aPort > k.bPort {
		k.a, k.b, k.aPort, k.bPort = k.b, k.a, k.bPort, k.aPort
		return k, true
	}
	return k, false
}

// first is a packet like the one that the flow began with.
func (f *flow) first() (pkt Packet) {
	k := f.key
	if f.reversed {
		k.a, k.b, k.aPort, k.bPort = k.b, k.a, k.bPort, k.aPort
	}
	pkt = Packet{Kind: IPv4, Proto: k.proto, SourcePort: k.aPort, DestinationPort: k.bPort}
	pkt.Source, pkt.Destination = netip.AddrFrom16(k.a).Unmap(), netip.AddrFrom16(k.b).Unmap()
	if k.v6 {
		pkt.Kind = IPv6
	}
	return pkt
}

func (t *flows) bucket(k flowKey) *flowBucket {
	return &t.buckets[maphash.Comparable(t.seed, k)&uint64(len(t.buckets)-1)]
}

// pass reports why pkt may not pass between two ports, and the flow that it is of.
func (t *flows) pass(p *policy, pkt *Packet, vlan uint16, from, to *Port, now int64) (id uint64, reply bool, why Reason) {
	if pkt.Later {
		return t.passLater(p, pkt, vlan, from, to, now)
	}
	id, reply, why = t.passWhole(p, pkt, vlan, from, to, now)
	if pkt.Fragment && why == None && !t.expect(p, pkt, vlan, from, to, id, now) {
		why = Flows
	}
	return id, reply, why
}

// passWhole is pass for a packet that shows its ports.
func (t *flows) passWhole(p *policy, pkt *Packet, vlan uint16, from, to *Port, now int64) (id uint64, reply bool, why Reason) {
	key, reversed := keyOf(pkt, vlan)
	b := t.bucket(key)
	b.mu.Lock()
	defer b.mu.Unlock()
	if f := b.find(key, p, from, to, now); f != nil {
		reply = from == f.to
		// Nobody answers by opening a connection.
		opens := pkt.Proto == TCP && pkt.TCPFlags&(tcpSYN|tcpACK) == tcpSYN
		switch {
		case f.state&flowCut != 0:
			f.last = now
			return f.id, reply, Cut
		case reply && opens && !p.allows(from, to, pkt):
			return f.id, reply, Policy
		case opens && f.state.closed():
			f.id = 0 // another one of the same addresses
		default:
			f.pass(pkt, reply, now)
			return f.id, reply, None
		}
	}
	if !p.allows(from, to, pkt) {
		return 0, false, Policy
	}
	f := b.place(from, now)
	if f == nil {
		return 0, false, Flows
	}
	*f = flow{key: key, id: t.next.Add(1), from: from, to: to, generation: p.generation, reversed: reversed}
	f.pass(pkt, false, now)
	return f.id, false, None
}

// Flags of TCP.
const (
	tcpFIN = 1
	tcpSYN = 2
	tcpRST = 4
	tcpACK = 16
)

func (f *flow) pass(pkt *Packet, reply bool, now int64) {
	f.last = now
	f.replied = f.replied || reply
	if pkt.Proto != TCP {
		return
	}
	if pkt.TCPFlags&tcpRST != 0 {
		f.state |= flowReset
	}
	if pkt.TCPFlags&tcpFIN != 0 {
		if reply {
			f.state |= flowFINBack
		} else {
			f.state |= flowFIN
		}
	}
}

// find is the flow with a key between two ports, if the rules still allow it.
func (b *flowBucket) find(key flowKey, p *policy, from, to *Port, now int64) *flow {
	for i := range b.flows {
		f := &b.flows[i]
		if f.id == 0 || f.key != key {
			continue
		}
		same := f.from == from && f.to == to || f.from == to && f.to == from
		if !same || !f.alive(now) {
			f.id = 0 // of a port that is gone, or over
			return nil
		}
		if f.generation != p.generation && f.state&flowCut == 0 {
			first := f.first()
			if f.key.fragment || !p.allows(f.from, f.to, &first) {
				f.id = 0
				return nil
			}
			f.generation = p.generation
		}
		return f
	}
	return nil
}

// place is where a flow of from's goes, nil if there is none. Flows that are cut stay
// as long as they are known.
func (b *flowBucket) place(from *Port, now int64) *flow {
	var victim *flow
	most := 1 // a port with one flow here keeps it
	for i := range b.flows {
		f := &b.flows[i]
		if !f.alive(now) {
			return f
		}
		if f.state&flowCut != 0 {
			continue
		}
		n := 0
		for j := range b.flows {
			if b.flows[j].from == f.from {
				n++
			}
		}
		if f.from == from {
			n++ // it would have
		}
		if n > most || n == most && victim != nil && f.last < victim.last {
			victim, most = f, n
		}
	}
	return victim
}

// quoted reports whether an ICMP error is about a flow between two ports, which is the
// flow that it belongs to.
func (t *flows) quoted(p *policy, q *Packet, vlan uint16, from, to *Port, now int64) (id uint64, ok bool) {
	key, _ := keyOf(q, vlan)
	b := t.bucket(key)
	b.mu.Lock()
	defer b.mu.Unlock()
	f := b.find(key, p, from, to, now)
	if f == nil || f.state&flowCut != 0 {
		return 0, false
	}
	return f.id, true
}

func (t *flows) cut(id uint64, now int64) (found bool) {
	t.each(func(f *flow) {
		if id != 0 && f.id == id {
			f.state |= flowCut
			f.last = now
			found = true
		}
	})
	return found
}

func (t *flows) begunBy(p *Port, now int64) (n int) {
	t.each(func(f *flow) {
		if f.from == p && !f.key.fragment && f.alive(now) {
			n++
		}
	})
	return n
}

// each does something with each place of the table.
func (t *flows) each(do func(*flow)) {
	for i := range t.buckets {
		b := &t.buckets[i]
		b.mu.Lock()
		for j := range b.flows {
			do(&b.flows[j])
		}
		b.mu.Unlock()
	}
}
