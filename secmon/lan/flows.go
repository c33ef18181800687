package lan

import (
	"fmt"

	"warder/devices/virtio/net"
	"warder/secmon/lan/flow"
	"warder/secmon/lan/packet"
)

// A Flow is a conversation that one port began with another, so that answers to it
// pass. Flows is the table of those that are known.
type (
	Flow  = flow.Flow[Conversation]
	Flows = flow.Table[Conversation]
)

// Conversation is what the switch knows of a flow.
type Conversation struct {
	// Known is what the inspector knows of it.
	Known any

	from, to   *Port  // who began it and with whom, nil for a group
	via        *Port  // the gateway that reads what is said, nil for none
	port       uint16 // of to, where it began
	generation uint32 // of the rules that allow it
	cut        bool
	diverted   *Port // the mirror port that gets it, nil if none does
}

// Why a flow ends, beside what package flow says.
const (
	forbidden = "forbidden" // the rules do not allow it any more
	gone      = "gone"      // a port was taken away
	quiet     = "idle"
)

// opens reports whether a packet asks for a conversation. Nobody answers so.
func opens(h *packet.Headers) bool {
	return h.Protocol == packet.TCP && h.Flags&(packet.SYN|packet.ACK) == packet.SYN || h.Echo()
}

// converse says why the frame may not pass to its receiver, by the conversation that it
// is of or begins.
func (x *transit) converse(t *table) Reason {
	h, s := &x.seen[0].Headers, &x.seen[0]
	if h.Later() {
		return x.continues(t)
	}
	key, forward := flow.KeyOf(h, s.VLAN)
	if why := x.pass(t, &key, forward); why != None {
		return why
	}
	if h.Fragment {
		x.from.pieces.expect(s, key, forward)
	}
	return None
}

// pass is converse for the frame of a flow that has a key.
func (x *transit) pass(t *table, key *flow.Key, forward bool) Reason {
	s := &x.seen[0]
	h, p, from, to := &s.Headers, t.policy, s.From, s.To
	part, hash := from.sw.flows.Part(key)
	part.Lock()
	defer part.Unlock()
	f := part.Find(hash, key)
	if x.speaksFor != nil { // the gateway speaks for who is spoken to by way of it
		if f == nil || f.Data.via != from || f.Data.to != x.speaksFor {
			return SourceIP
		}
		from = x.speaksFor
	}
	if why := over(f, p, from, to, s.Time); why != "" {
		part.End(f, why)
		f = nil
	}
	if f != nil {
		c := &f.Data
		s.note(f, forward)
		switch {
		case c.cut:
			f.Keep(s.Time)
			return Cut
		case f.State == flow.Opening && s.Direction == 1 && h.Flags&packet.RST != 0 && s.From.unready(s.Time):
			return Asleep // who asked asks again
		case !opens(h):
		case from == c.to && !p.allows(from, to, h):
			return Policy
		case f.State.Over():
			via := c.via
			part.Again(f, h, forward, from.owner(), s.Time)
			x.begins(f, p, forward, via)
		}
		if x.diverted = f.Data.diverted; from == f.Data.from {
			x.via = f.Data.via
		}
		x.counts(f)
		return None
	}
	if h.Later() {
		return Policy
	}
	if to != nil && !p.allows(from, to, h) {
		if x.via = t.gateway(s.VLAN); x.via == nil || !p.reads(from, to, h) {
			return Policy
		}
	}
	if f = part.Add(hash, h, key, s.VLAN, forward, from.owner(), s.Time); f == nil {
		return TooManyFlows
	}
	x.begins(f, p, forward, x.via)
	x.counts(f)
	return None
}

func (x *transit) begins(f *Flow, p *policy, forward bool, via *Port) {
	s := &x.seen[0]
	f.Data = Conversation{from: s.From, to: s.To, via: via, port: s.Headers.DstPort, generation: p.generation}
	s.note(f, forward)
	s.Fresh = true
}

// counts counts the frame, and has it change the flow's state.
func (x *transit) counts(f *Flow) {
	s := &x.seen[0]
	packets := 1
	if g := int(s.Frame.GSOSize); s.Frame.GSO != net.NoGSO && g > 0 {
		packets = max(1, (s.Headers.PayloadLen+g-1)/g)
	}
	f.Count(s.Direction, s.Frame.Len, packets, s.Time)
	if s.Headers.Protocol == packet.TCP && f.Protocol == packet.TCP && s.Headers.Transport {
		f.Step(s.Direction, s.Headers.Flags)
	}
}

// note says in s which flow it is of.
func (s *Seen) note(f *Flow, forward bool) {
	s.entry, s.Flow, s.Direction, s.Known = f, f.ID, f.Direction(forward), f.Data.Known
}

// over says why a flow is over that has the key of a frame between two ports, "" if it
// is not, or is nil.
func over(f *Flow, p *policy, from, to *Port, now int64) string {
	if f == nil {
		return ""
	}
	c := &f.Data
	switch {
	case !(c.from == from && c.to == to) && !(c.from == to && c.to == from):
		return gone
	case !f.Alive(now):
		return quiet
	case c.generation == p.generation || c.cut || c.to == nil:
		return ""
	}
	first := packet.Headers{Protocol: f.Protocol, DstPort: c.port}
	if !p.allows(c.from, c.to, &first) && (c.via == nil || !p.reads(c.from, c.to, &first)) {
		return forbidden
	}
	c.generation = p.generation
	return ""
}

// about reports whether the frame, an ICMP error, is about a flow between its ports,
// which is then the flow that it belongs to.
func (x *transit) about(p *policy) bool {
	s := &x.seen[0]
	q, ok := quoted(&s.Headers, s.Frame.Head)
	if !ok {
		return false
	}
	key, forward := flow.KeyOf(&q, s.VLAN)
	part, hash := s.From.sw.flows.Part(&key)
	part.Lock()
	defer part.Unlock()
	f := part.Find(hash, &key)
	if f == nil || over(f, p, s.From, s.To, s.Time) != "" || f.Data.cut {
		return false
	}
	s.note(f, !forward) // who tells of it has received it
	x.counts(f)
	return true
}

// cut has the frame's flow lost from now on, both ways.
func (s *Seen) cut() {
	if f := s.Conversation(); f != nil {
		f.Data.cut = true
		f.Keep(s.Time)
		f.Unlock()
	}
}

// Cut ends a flow: its frames are lost from now on, both ways. It reports whether
// there is such a flow.
func (s *Switch) Cut(id uint64) (found bool) {
	return s.change(id, func(f *Flow) {
		f.Data.cut = true
		f.Keep(s.now())
	})
}

// Divert has the frames of a flow go to a mirror port in place of those that they are
// for, or again to those if it is nil. It reports whether there is such a flow.
func (s *Switch) Divert(id uint64, to *Port) (found bool, err error) {
	if to != nil && !to.isMirror() {
		return false, fmt.Errorf("%s is no mirror port: frames can be diverted to one of those alone", to.cfg.Name)
	}
	return s.change(id, func(f *Flow) { f.Data.diverted = to }), nil
}

func (s *Switch) change(id uint64, how func(*Flow)) (found bool) {
	s.flows.Each(func(f *Flow) bool {
		if found = f.ID == id; found {
			how(f)
		}
		return !found
	})
	return found
}
