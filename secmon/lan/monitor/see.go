package monitor

import (
	"fmt"
	"slices"
	"time"

	"warder/secmon/event"
	"warder/secmon/lan"
	"warder/secmon/lan/app"
	"warder/secmon/lan/packet"
)

// Actions of anomalies that the monitor itself tells, beside those of package anomaly.
const (
	spoofMAC   = "mac-spoofing"
	spoofIP    = "ip-spoofing"
	spoofARP   = "arp-spoofing"
	spoofND    = "nd-spoofing"
	spoofDHCP  = "dhcp-spoofing"
	spoofRA    = "router-spoofing"
	vlanHop    = "vlan-hopping"
	malformed  = "malformed"
	longHead   = "oversized-head"
	lateral    = "lateral-movement"
	wrongPort  = "wrong-port"
	flowsSpent = "flow-exhaustion"
	undeclared = "request-refused"
)

// turn is one frame, while it is looked at.
type turn struct {
	*Monitor
	s      *lan.Seen
	h      *packet.Headers
	now    int64
	events []event.Event
	begun  *event.Net // the flow that the frame began
}

// Inspect implements [lan.Inspector].
func (m *Monitor) Inspect(frames []lan.Seen) {
	for i := range frames {
		s := &frames[i]
		t := turn{Monitor: m, s: s, h: &s.Headers, now: s.Time + m.clock(s.Time)}
		t.see()
		m.taps.offer(&t)
		if len(t.events) > 0 && m.tell(t.events) {
			s.Verdict = lan.CutFlow
			if s.Flow == 0 {
				s.Verdict = lan.Drop
			}
		}
	}
}

// resync is how often the host's clock is read, in nanoseconds. For each frame that would
// cost as much as reading its headers.
const resync = int64(time.Second)

// clock is what to add to the switch's time.
func (m *Monitor) clock(at int64) int64 {
	if last := m.synced.Load(); last != 0 && at-last < resync {
		return m.offset.Load()
	}
	o := time.Now().UnixNano() - at
	m.offset.Store(o)
	m.synced.Store(at)
	return o
}

// vm is the VM at a port, "" for a port with something else behind it.
func vm(p *lan.Port) string {
	if p == nil {
		return ""
	}
	if c := p.Config(); c.Uplink || c.Trusted {
		return ""
	}
	return p.Name()
}

func (t *turn) see() {
	h := t.h
	if t.s.Refused == lan.None && t.s.Flow != 0 {
		t.flow()
		return
	}
	t.stats.frames.Add(1)
	t.stats.bytes.Add(uint64(t.s.Frame.Len))
	switch {
	case t.s.Refused != lan.None:
		t.refused()
	case h.Type == packet.TypeARP:
		if h.ARP.Op == 1 && h.ARP.Sender != h.ARP.Target {
			t.asks(h.ARP.Target)
		}
	case h.Protocol == packet.ICMPv6 && h.ICMPType == neighbourSolicit:
		const target = 4 // behind type, code and checksum
		if p := t.s.Frame.Head; h.PayloadLen >= target+16 && len(p) >= h.Payload+target+16 {
			t.asks(packet.Addr(p[h.Payload+target:]))
		}
	}
}

// neighbourSolicit is the ICMPv6 message that asks for a hardware address (RFC 4861).
const neighbourSolicit = 135

// flow reads the frame if there is something to learn of its flow.
func (t *turn) flow() {
	s := t.s
	if k, ok := s.Known.(*known); ok && k.learnt.Load() {
		return
	}
	f := s.Conversation()
	if f == nil {
		return
	}
	if s.Fresh {
		t.begins(f)
	}
	if k := of(f); k != nil && k.inspect != nil && t.h.Protocol == f.Protocol { // not an ICMP error about it
		t.read(f, k.inspect, s.Direction)
	}
	f.Unlock()
	if s.Fresh {
		t.connects(s.Direction)
	}
}

// begins fills in what is known of a new flow.
func (t *turn) begins(f *lan.Flow) {
	k := new(known)
	k.vms[t.s.Direction], k.vms[1-t.s.Direction] = vm(t.s.From), vm(t.s.To)
	if t.h.Transport && (f.Protocol == packet.TCP || f.Protocol == packet.UDP) {
		k.inspect = &inspection{}
	} else {
		k.learnt.Store(true)
	}
	f.Data.Known = k
	t.begun = netOf(f)
	t.events = append(t.events, event.Event{Time: t.now, Kind: event.Flow, Action: event.Began, VM: k.vms[0], Net: t.begun})
}

// connects tells what it means that a flow begins, with a frame of direction d. The
// flow is not locked any more.
func (t *turn) connects(d int) {
	t.tellLate()
	if d != 0 || vm(t.s.From) == "" {
		return // seen from its answer, or not of a VM
	}
	if t.h.Protocol == packet.TCP && t.h.Flags&packet.SYN == 0 {
		return // from its middle: nobody knows who opened it
	}
	x := t.machine(vm(t.s.From))
	t.events = x.found(t.events, t.now, t.begun, x.Connects(t.now, t.h.Protocol, t.h.Dst.IP(), t.h.DstPort))
}

// asks is for a question after a hardware address.
func (t *turn) asks(who packet.Addr) {
	if name := vm(t.s.From); name != "" {
		x := t.machine(name)
		t.events = x.found(t.events, t.now, t.net(), x.Asks(t.now, who.IP()))
	}
}

// net is the frame as an event has it, apart from any flow.
func (t *turn) net() *event.Net {
	n := &event.Net{SourceVM: vm(t.s.From), DestinationVM: vm(t.s.To), VLAN: t.s.VLAN, Initiated: true}
	switch h := t.h; {
	case h.IP:
		n.Transport = transport(h.Protocol)
		n.Source, n.Destination = ends(h.Protocol, h.Src, h.SrcPort, h.Dst, h.DstPort)
		n.Flow = event.FlowID(n.Transport, n.Source, n.Destination)
		n.Application = string(app.At(h.DstPort))
	case h.Type == packet.TypeARP:
		n.Transport = "arp"
		n.Source, n.Destination = ends(0, h.ARP.Sender, 0, h.ARP.Target, 0)
	}
	return n
}

// refused is for a frame that the switch does not let pass.
func (t *turn) refused() {
	name := vm(t.s.From)
	if name == "" {
		return
	}
	h, x := t.h, t.machine(name)
	action, what := "", ""
	switch t.s.Refused {
	case lan.SourceMAC:
		action, what = spoofMAC, "sends as "+h.Source.String()
	case lan.SourceIP:
		action, what = spoofIP, fmt.Sprintf("sends as %v", h.Src.IP())
	case lan.Neighbour:
		action, what = spoofND, "speaks for another's address"
		if h.Type == packet.TypeARP {
			action, what = spoofARP, fmt.Sprintf("says that %v is at %v", h.ARP.Sender.IP(), h.ARP.SenderMAC)
		}
	case lan.Server:
		action, what = spoofDHCP, "answers as a DHCP server"
		if h.Protocol != packet.UDP {
			action, what = spoofRA, "speaks as a router"
		}
	case lan.Tagged, lan.DoubleTag:
		action, what = vlanHop, fmt.Sprintf("sends with VLAN tags %v", slices.Clone(h.VLANs[:h.Tags]))
	case lan.Malformed, lan.Protocol:
		t.stats.malformed.Add(1)
		action, what = malformed, "a frame with "+h.Fault.String()
		if h.Fault == packet.Sound {
			what = fmt.Sprintf("a frame of type %#04x", h.Type)
		}
	case lan.TooManyFlows:
		action, what = flowsSpent, "has more flows than it may"
	case lan.Policy, lan.Address:
		t.denied(x)
		return
	default:
		return
	}
	t.events = x.does(t.events, t.now, action, what, t.net())
}

// denied is for a frame to somewhere that was not declared.
func (t *turn) denied(x *machine) {
	h := t.h
	switch {
	case h.Type == packet.TypeARP:
		if h.ARP.Op == 1 {
			t.asks(h.ARP.Target)
		}
		return
	case !h.IP, h.Protocol == packet.TCP && h.Flags&(packet.SYN|packet.ACK) != packet.SYN:
		return // what is left of a flow that was allowed
	case h.Dst.IP().IsMulticast():
		return
	}
	n := t.net()
	to := n.DestinationVM
	if to == "" {
		to = h.Dst.IP().String()
	}
	what := fmt.Sprintf("is not declared to reach %s, %s", to, n.Transport)
	if h.Protocol == packet.TCP || h.Protocol == packet.UDP {
		what = fmt.Sprintf("is not declared to reach %s, port %d/%s", to, h.DstPort, n.Transport)
	}
	t.events = x.does(t.events, t.now, lateral, what, n)
	t.events = x.found(t.events, t.now, n, x.Connects(t.now, h.Protocol, h.Dst.IP(), h.DstPort))
}
