package filter

import (
	"math"

	"warder/secmon/lan/packet"
)

var flagNames = map[string]uint8{
	"tcp-fin": packet.FIN, "tcp-syn": packet.SYN, "tcp-rst": packet.RST, "tcp-push": packet.PSH, "tcp-ack": packet.ACK, "tcp-urg": packet.URG,
}

// flags reads tcp[tcpflags] and what is asked of them; tcp is read.
func (p *parser) flags() test {
	p.n++
	if p.take("tcpflags", "13") == "" || p.take("]") == "" {
		return p.fail("of TCP only tcp[tcpflags] can be asked for")
	}
	mask := uint8(0x3f)
	if p.take("&") != "" {
		mask = p.flagSet()
	}
	op := p.take("=", "==", "!=")
	if op == "" {
		return p.fail("= or != has to follow here")
	}
	value := p.flagSet()
	return func(f *Frame) bool {
		return f.Transport && f.Protocol == packet.TCP && (f.Flags&mask == value) == (op != "!=")
	}
}

// flagSet reads flags: a number, a name, or several names with | between.
func (p *parser) flagSet() (set uint8) {
	bracket := p.take("(") != ""
	for {
		if f, ok := flagNames[p.peek()]; ok {
			set |= f
			p.n++
		} else {
			set |= uint8(p.number("flags have names, as tcp-syn, or", math.MaxUint8))
		}
		if p.err != nil || p.take("|") == "" {
			break
		}
	}
	if bracket && p.err == nil && p.take(")") == "" {
		p.fail("a bracket is not closed")
	}
	return set
}
