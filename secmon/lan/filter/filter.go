package filter

import (
	"net/netip"

	"warder/secmon/lan/packet"
)

// Frame is what a filter looks at.
type Frame struct {
	*packet.Headers
	VLAN     uint16
	Len      int // bytes
	From, To string
	Refused  bool
	Vsock    bool // a packet of vsock: without any of the headers
}

// Filter says which frames somebody wants.
type Filter struct {
	text string
	test test
}

// test is a compiled expression.
type test func(f *Frame) bool

// Match reports whether a frame is wanted.
func (f *Filter) Match(frame Frame) bool { return f.test(&frame) }

// String is the expression.
func (f *Filter) String() string { return f.text }

// side says which end of a frame a word is about.
type side uint8

const (
	anySide side = iota // the one or the other
	srcSide
	dstSide
	bothSides
)

// of applies what is asked of an end to the ends that are meant.
func of[T any](s side, src, dst T, holds func(T) bool) bool {
	switch s {
	case srcSide:
		return holds(src)
	case dstSide:
		return holds(dst)
	case bothSides:
		return holds(src) && holds(dst)
	}
	return holds(src) || holds(dst)
}

func all(*Frame) bool { return true }

// protocol is for frames of IP with one of two protocols.
func protocol(a, b uint8) test {
	return func(f *Frame) bool { return f.IP && (f.Protocol == a || f.Protocol == b) }
}

func etherType(t uint16) test { return func(f *Frame) bool { return f.Type == t } }

// in is for frames from or to addresses of a network, by IP or ARP.
func in(s side, network netip.Prefix) test {
	return func(f *Frame) bool {
		holds := func(a packet.Addr) bool { return network.Contains(a.IP()) }
		switch {
		case f.IP:
			return of(s, f.Src, f.Dst, holds)
		case f.Type == packet.TypeARP && f.Fault == packet.Sound:
			return of(s, f.ARP.Sender, f.ARP.Target, holds)
		}
		return false
	}
}

// port is for frames of TCP or UDP from or to some ports.
func port(s side, only uint8, first, last uint16) test {
	return func(f *Frame) bool {
		if !f.Transport || f.Protocol != packet.TCP && f.Protocol != packet.UDP || only != 0 && f.Protocol != only {
			return false
		}
		return of(s, f.SrcPort, f.DstPort, func(p uint16) bool { return first <= p && p <= last })
	}
}

func ether(s side, mac packet.MAC) test {
	return func(f *Frame) bool {
		return f.Fault != packet.ShortEthernet && of(s, f.Source, f.Destination, func(m packet.MAC) bool { return m == mac })
	}
}

func vm(s side, name string) test {
	return func(f *Frame) bool { return of(s, f.From, f.To, func(n string) bool { return n == name }) }
}

var broadcast = packet.MAC{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}
