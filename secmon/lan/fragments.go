package lan

// Later fragments of an IP packet show no ports. The first one does; where it passes,
// a place in the table of flows has those that follow pass too.

// packetKey is the key of the packet that a fragment is of.
func packetKey(pkt *Packet, vlan uint16) flowKey {
	return flowKey{
		a: pkt.Source.As16(), b: pkt.Destination.As16(), aPort: uint16(pkt.FragmentID >> 16), bPort: uint16(pkt.FragmentID),
		vlan: vlan, proto: pkt.Proto, v6: pkt.Kind == IPv6, fragment: true,
	}
}

// expect has the later fragments of pkt pass, whose first passes as part of a flow.
func (t *flows) expect(p *policy, pkt *Packet, vlan uint16, from, to *Port, id uint64, now int64) bool {
	key := packetKey(pkt, vlan)
	b := t.bucket(key)
	b.mu.Lock()
	defer b.mu.Unlock()
	f := b.find(key, p, from, to, now)
	if f == nil {
		f = b.place(from, now)
	}
	if f == nil {
		return false
	}
	*f = flow{key: key, id: id, from: from, to: to, generation: p.generation, last: now}
	return true
}

// passLater is pass for a fragment that shows nothing of its flow: it passes if the
// first of its packet has.
func (t *flows) passLater(p *policy, pkt *Packet, vlan uint16, from, to *Port, now int64) (id uint64, reply bool, why Reason) {
	key := packetKey(pkt, vlan)
	b := t.bucket(key)
	b.mu.Lock()
	defer b.mu.Unlock()
	f := b.find(key, p, from, to, now)
	switch {
	case f == nil || f.from != from:
		return 0, false, Policy
	case f.state&flowCut != 0:
		return f.id, false, Cut
	}
	return f.id, false, None
}
