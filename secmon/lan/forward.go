package lan

import (
	"sync/atomic"

	"warder/devices/virtio/net"
	"warder/secmon/lan/packet"
)

// A transit is a frame on its way. Who has one, holds a reference; the frame goes back
// to its sender with the last.
type transit struct {
	from  *Port
	frame *net.Frame
	seen  [1]Seen
	// group says that the frame is for all of its VLAN that may have it, uplinks
	// that it is for those among them.
	group, uplinks bool
	// speaksFor is whom the gateway speaks for, nil if it is itself; via the gateway that gets
	// the frame in place of the one that it is for.
	speaksFor, via *Port
	diverted       *Port // the mirror port that gets what its flow is, nil if none does

	refs   atomic.Int32
	tagged net.Frame // frame with the tag of its VLAN
	hasTag bool
	next   *transit
}

// transit is one that is not in use.
func (p *Port) transit(f *net.Frame) *transit {
	p.mu.Lock()
	x := p.spare
	if x != nil {
		p.spare = x.next
	}
	p.mu.Unlock()
	if x == nil {
		x = &transit{from: p}
	}
	x.frame, x.group, x.uplinks, x.hasTag, x.next = f, false, false, false, nil
	x.speaksFor, x.via, x.diverted = nil, nil, nil
	x.refs.Store(1)
	return x
}

// done gives up a reference.
func (x *transit) done() {
	if x.refs.Add(-1) > 0 {
		return
	}
	x.frame.Release()
	x.frame, x.tagged.Body = nil, nil
	p := x.from
	p.mu.Lock()
	x.next, p.spare = p.spare, x
	p.mu.Unlock()
}

// as is the frame as a port gets it, nil if it cannot have it so.
func (x *transit) as(tagged bool) *net.Frame {
	if !tagged {
		return x.frame
	}
	return &x.tagged
}

// needTag makes the frame with the tag of its VLAN, before it is for anybody.
func (x *transit) needTag() bool {
	if !x.hasTag {
		x.hasTag = tag(&x.tagged, x.frame, x.seen[0].VLAN)
	}
	return x.hasTag
}

// Send implements net.Port.
func (p *Port) Send(f *net.Frame) {
	p.counters.sent.Add(1)
	p.counters.sentBytes.Add(uint64(f.Len))
	x := p.transit(f)
	defer x.done()
	s := &x.seen[0]
	*s = Seen{Frame: f, From: p, Time: p.sw.now()}
	t := p.sw.table.Load()
	s.Refused = x.admit()
	s.Headers.Decode(f.Head, f.Len, f.GSO != net.NoGSO)
	if s.Refused == None {
		s.Refused = x.judge(t)
	}
	if p.sw.inspector != nil {
		p.sw.inspector.Inspect(x.seen[:])
	}
	if s.Refused != None {
		p.lost(s.Refused)
		x.reject()
		return
	}
	switch s.Verdict {
	case Drop:
		p.lost(Inspected)
		return
	case CutFlow:
		s.cut()
		p.lost(Cut)
		return
	}
	if to := x.diversion(); to != nil {
		x.copy(to)
		p.lost(Diverted)
		return
	}
	x.mirror(t)
	if s.Verdict == Divert {
		p.lost(Diverted)
		return
	}
	x.deliver(t)
}

// admit takes the frame off the port's hands, without its tag.
func (x *transit) admit() Reason {
	p, s := x.from, &x.seen[0]
	if p.isolated.Load() {
		return Isolated
	}
	if p.isMirror() {
		return Policy
	}
	vlan := p.cfg.VLAN
	if tagged(x.frame.Head) {
		if len(p.trunk) == 0 {
			return Tagged
		}
		tag, why := untag(x.frame)
		if why != None {
			return why
		}
		if vlan = tag & vlanOf; !p.trunk[vlan] {
			return Tagged
		}
	}
	if vlan == 0 {
		return Tagged // not at all, where it has to be
	}
	s.VLAN = vlan
	if !p.rate.pass(x.frame.Len, s.Time) {
		return Rate
	}
	return None
}

// judge finds whom the frame is for, and why they may not have it, or the port not send it.
func (x *transit) judge(t *table) Reason {
	p, s := x.from, &x.seen[0]
	head, h := x.frame.Head, &s.Headers
	switch {
	case h.Fault != packet.Sound:
		s.To = t.stations[station{s.VLAN, net.MAC(h.Destination)}] // for the inspector
		return Malformed
	case !h.IP && h.Type != packet.TypeARP:
		return Protocol
	}
	switch why := p.honest(t, s.VLAN, x.frame, h); {
	case why == SourceIP && p.cfg.Trusted && (h.Protocol == packet.TCP || h.Protocol == packet.UDP) && net.MAC(head).Unicast():
		x.speaksFor = t.addresses[address{s.VLAN, h.Src}]
	case why != None:
		return why
	}
	if p.cfg.Uplink {
		p.sw.learned.learn(station{s.VLAN, net.MAC(head[6:])}, p, s.Time)
	}
	if who, asks := asksFor(head, h); asks {
		return x.ask(t, who)
	}
	to := net.MAC(head)
	if !to.Unicast() {
		if to.Unset() {
			return Malformed
		}
		x.group = true
		// What is said to routers and to who listens to groups is not for others.
		x.uplinks = !p.cfg.Trusted && (h.Type == packet.TypeARP || h.Protocol == packet.ICMPv6 && !h.Echo() && !h.EchoReply())
		return x.toGroup(t)
	}
	s.To = t.stations[station{s.VLAN, to}]
	if s.To == nil {
		s.To = p.sw.learned.find(station{s.VLAN, to}, s.Time)
	}
	switch {
	case s.To == p:
		return Nobody
	case s.To == nil: // nobody's that is known, so somebody's behind an uplink if at all
		if s.To = t.uplink(s.VLAN, p); s.To == nil {
			x.group, x.uplinks = true, true
			return x.toGroup(t)
		}
	}
	return x.between(t)
}

// toGroup is why the frame may not pass to all that may have it.
func (x *transit) toGroup(t *table) Reason {
	h := &x.seen[0].Headers
	if !h.IP || discovers(h) || h.Later() {
		return None // no conversation, or only those who have its beginning can have any use for it
	}
	return x.converse(t)
}

// between is why the frame may not pass to the one port that it is for.
func (x *transit) between(t *table) Reason {
	p, s := x.from, &x.seen[0]
	h := &s.Headers
	if s.To.isolated.Load() {
		return Isolated
	}
	if h.Type == packet.TypeARP || h.Protocol == packet.ICMPv6 && h.ICMPType == neighbourAdvert {
		if !t.policy.related(p, s.To) {
			return Policy
		}
		return None
	}
	if !s.To.cfg.Uplink && !s.To.cfg.Trusted && !s.To.has(h.Dst) {
		// The answer of a DHCP server goes to an address that is not taken yet, that of
		// a router to whoever may have none.
		dhcp, router := h.Protocol == packet.UDP && h.SrcPort == dhcpServer, h.Protocol == packet.ICMPv6 && h.ICMPType == routerAdvert
		if !p.cfg.Trusted || !dhcp && !router {
			return Address
		}
		if router {
			return None // no conversation
		}
	}
	if icmpError(h) && x.about(t.policy) {
		if p.unready(s.Time) && closes(h) {
			return Asleep
		}
		return None
	}
	return x.converse(t)
}

// asksFor is the address that the frame is a question for, by ARP or neighbour
// discovery.
func asksFor(head []byte, h *packet.Headers) (who packet.Addr, asks bool) {
	switch {
	case h.Type == packet.TypeARP && h.ARP.Op == packet.ARPRequest:
		return h.ARP.Target, true
	case h.Protocol == packet.ICMPv6 && h.ICMPType == neighbourSolicit && !h.Fragment:
		return discovered(head, h)
	}
	return who, false
}

// ask has the one asked who has the address, and nobody else.
func (x *transit) ask(t *table, who packet.Addr) Reason {
	s := &x.seen[0]
	s.To = t.addresses[address{s.VLAN, who}]
	switch {
	case s.To == nil:
		x.group, x.uplinks = true, true
		return None
	case s.To == x.from:
		s.To = nil
		return Nobody // it asks whether anybody else has its address
	case s.To.isolated.Load():
		return Isolated
	case !t.policy.related(x.from, s.To):
		return Policy
	}
	return None
}

// deliver gives the frame to whom it is for.
func (x *transit) deliver(t *table) {
	s := &x.seen[0]
	switch {
	case x.via != nil:
		x.to(x.via)
		return
	case !x.group && s.To.sleeps():
		x.visit(s.To)
		return
	case !x.group:
		x.to(s.To)
		return
	}
	any := false
	for _, q := range t.members[s.VLAN] {
		switch {
		case q == x.from || x.uplinks && !q.cfg.Uplink && !q.cfg.Trusted:
			continue
		case !s.Headers.IP && !t.policy.related(x.from, q), s.Headers.IP && !t.policy.allows(x.from, q, &s.Headers):
			continue
		}
		any = true
		x.to(q)
	}
	if !any {
		x.from.lost(Nobody)
	}
}

// visit is to for a port that sleeps.
func (x *transit) visit(q *Port) {
	if who, asks := asksFor(x.frame.Head, &x.seen[0].Headers); asks {
		x.answer(who)
	} else if x.mayBegin() {
		x.knock(q.door)
	} else {
		x.to(q) // of what its VM has begun, or is of no use to it
	}
}

// to gives the frame to a port.
func (x *transit) to(q *Port) {
	tagged := q.trunk[x.seen[0].VLAN]
	if tagged && !x.needTag() {
		x.from.lost(Malformed)
		return
	}
	r := q.receiver.Load()
	if r == nil {
		x.from.lost(Down)
		return
	}
	q.lines[(*r).Queue(x.as(tagged))].send(x, tagged)
}

// mirror gives the mirror ports a copy, if they have room now.
func (x *transit) mirror(t *table) {
	for _, q := range t.mirrors {
		if q.mirrors(x.from, x.seen[0].To) {
			x.copy(q)
		}
	}
}

// copy gives one mirror port a copy, if it has room now.
func (x *transit) copy(q *Port) {
	r := q.receiver.Load()
	if r == nil || q == x.from || !x.needTag() {
		return
	}
	q.lines[(*r).Queue(&x.tagged)].offer(&x.tagged)
}

// diversion is the mirror port that gets the frame in place of whom it is for, nil if none
// does.
func (x *transit) diversion() *Port {
	if to := x.from.diverted.Load(); to != nil {
		return to
	}
	if to := x.seen[0].To; to != nil {
		if to := to.diverted.Load(); to != nil {
			return to
		}
	}
	return x.diverted
}
