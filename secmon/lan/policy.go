package lan

import (
	"fmt"

	"warder/secmon/lan/packet"
	"warder/secmon/lan/request"
)

// Everybody stands for all ports in a rule.
const Everybody = "*"

// A Rule allows one port to begin conversations with another. Answers are allowed with
// it; nothing else is.
type Rule struct {
	From, To string // names of ports, or Everybody
	// Proto is packet.TCP, UDP or ICMP, which is ICMPv6 too; 0 for all protocols.
	Proto uint8
	// First and Last are the ports of TCP or UDP at the receiver, both 0 for all.
	First, Last uint16
	// HTTP and DNS have the rule allow such requests alone. What is said goes by way
	// of the gateway of the VLAN, which reads it.
	HTTP *request.HTTP
	DNS  *request.DNS
}

// reads reports whether the gateway has to read what the rule allows.
func (r *Rule) reads() bool { return r.HTTP != nil || r.DNS != nil }

func (r Rule) validate() error {
	switch {
	case r.From == "" || r.To == "":
		return fmt.Errorf("rule from %q to %q: name both ends, or give %s", r.From, r.To, Everybody)
	case r.First > r.Last:
		return fmt.Errorf("rule from %s to %s: ports %d to %d: give the lower first", r.From, r.To, r.First, r.Last)
	case r.Last != 0 && r.Proto != packet.TCP && r.Proto != packet.UDP:
		return fmt.Errorf("rule from %s to %s: only TCP and UDP have ports", r.From, r.To)
	case r.HTTP != nil && (r.Proto != packet.TCP || r.all()), r.DNS != nil && (r.Proto != packet.TCP && r.Proto != packet.UDP || r.all()):
		return fmt.Errorf("rule from %s to %s: give the ports of TCP at which HTTP is spoken, or of TCP or UDP at which DNS is", r.From, r.To)
	case r.HTTP != nil && r.DNS != nil:
		return fmt.Errorf("rule from %s to %s: HTTP and DNS are not spoken at one port", r.From, r.To)
	}
	var err error
	if r.HTTP != nil {
		err = r.HTTP.Validate()
	} else if r.DNS != nil {
		err = r.DNS.Validate()
	}
	if err != nil {
		return fmt.Errorf("rule from %s to %s: %w", r.From, r.To, err)
	}
	return nil
}

// all reports whether the rule is about whatever packets of its protocol.
func (r Rule) all() bool { return r.Last == 0 }

// allows reports whether the rule, which is between the right ends, is for a packet. A
// fragment that is not the first shows no ports, so only a rule for all of them is.
func (r Rule) allows(h *packet.Headers) bool {
	proto := h.Protocol
	if proto == packet.ICMPv6 {
		proto = packet.ICMP
	}
	if r.Proto != 0 && r.Proto != proto {
		return false
	}
	return r.all() || !h.Later() && r.First <= h.DstPort && h.DstPort <= r.Last
}

// policy is rules by the ends that they are between. It never changes.
type policy struct {
	rules      map[ends][]Rule
	generation uint32
}

type ends struct{ from, to string }

func compile(rules []Rule, generation uint32) (*policy, error) {
	p := &policy{rules: make(map[ends][]Rule), generation: generation}
	for _, r := range rules {
		if err := r.validate(); err != nil {
			return nil, err
		}
		e := ends{r.From, r.To}
		p.rules[e] = append(p.rules[e], r)
	}
	return p, nil
}

// between are the rules that may be for what one port sends another.
func (p *policy) between(from, to *Port) [4][]Rule {
	a, b := from.cfg.Name, to.cfg.Name
	return [...][]Rule{p.rules[ends{a, b}], p.rules[ends{a, Everybody}], p.rules[ends{Everybody, b}], p.rules[ends{Everybody, Everybody}]}
}

// allows reports whether from may send a packet to another port without being asked.
func (p *policy) allows(from, to *Port, h *packet.Headers) bool {
	if from.cfg.Trusted || to.cfg.Trusted {
		return true
	}
	return p.has(from, to, h, func(r *Rule) bool { return !r.reads() })
}

// reads reports whether from may send a packet to another port if the gateway reads it.
func (p *policy) reads(from, to *Port, h *packet.Headers) bool {
	return p.has(from, to, h, (*Rule).reads)
}

// has reports whether one of some rules is for a packet between two ports.
func (p *policy) has(from, to *Port, h *packet.Headers, some func(*Rule) bool) bool {
	if from.cfg.Isolated && to.cfg.Isolated {
		return false
	}
	for _, list := range p.between(from, to) {
		for i := range list {
			if list[i].allows(h) && some(&list[i]) {
				return true
			}
		}
	}
	return false
}

// related reports whether two ports have anything to say to each other, so that they
// may ask for each other's addresses.
func (p *policy) related(a, b *Port) bool { return p.begins(a, b) || p.begins(b, a) }

// begins reports whether a port may begin any conversation with another.
func (p *policy) begins(from, to *Port) bool {
	switch {
	case from.cfg.Trusted || to.cfg.Trusted:
		return true
	case from.cfg.Isolated && to.cfg.Isolated:
		return false
	}
	for _, list := range p.between(from, to) {
		if len(list) > 0 {
			return true
		}
	}
	return false
}
