package filter

import (
	"fmt"
	"math"
	"net/netip"
	"strconv"
	"strings"

	"warder/secmon/lan/packet"
)

// Error is what is wrong with an expression, and where.
type Error struct {
	Text   string // the expression
	At     int    // byte
	Reason string
}

// Error is the expression with a caret below the place, and the reason.
func (e *Error) Error() string {
	return fmt.Sprintf("%s\n%s^ %s", e.Text, strings.Repeat(" ", e.At), e.Reason)
}

// Bounds on expressions, which come from people and other processes.
const (
	maxText  = 4096
	maxDepth = 64
)

// Parse compiles an expression. The empty one is for all frames.
func Parse(text string) (*Filter, error) {
	text = strings.Trim(text, " ")
	if len(text) > maxText {
		return nil, &Error{text[:40] + "...", 0, fmt.Sprintf("the expression has more than %d characters", maxText)}
	}
	if i := strings.IndexFunc(text, func(r rune) bool { return r < ' ' || r > '~' }); i >= 0 {
		return nil, &Error{strings.ToValidUTF8(text[:i], "?"), i, "only printable ASCII has a meaning here"}
	}
	p := &parser{text: text, words: split(text)}
	if len(p.words) == 0 {
		return &Filter{text, all}, nil
	}
	t := p.expression()
	if p.err == nil && p.n < len(p.words) {
		p.fail("an expression ends here; and, or are missing, or a bracket is too much")
	}
	if p.err != nil {
		return nil, p.err
	}
	return &Filter{text, t}, nil
}

type word struct {
	text string
	at   int
}

// split cuts a text into words and signs.
func split(text string) (words []word) {
	const signs = "()[]!&|=<>"
	for i := 0; i < len(text); {
		n := 1
		switch {
		case text[i] == ' ':
			i++
			continue
		case strings.IndexByte(signs, text[i]) < 0:
			if n = strings.IndexAny(text[i:], " "+signs); n < 0 {
				n = len(text) - i
			}
		case i+1 < len(text) && (text[i+1] == text[i] && (text[i] == '&' || text[i] == '|' || text[i] == '=') || text[i+1] == '=' && text[i] == '!'):
			n = 2
		}
		words = append(words, word{text[i : i+n], i})
		i += n
	}
	return words
}

type parser struct {
	text  string
	words []word
	n     int // words read
	depth int
	err   *Error
	last  func(p *parser) test // what a bare value means after and, or
}

// fail notes what is wrong with the next word.
func (p *parser) fail(format string, args ...any) test {
	if p.err == nil {
		at := len(p.text)
		if p.n < len(p.words) {
			at = p.words[p.n].at
		}
		p.err = &Error{p.text, at, fmt.Sprintf(format, args...)}
	}
	return all
}

func (p *parser) peek() string {
	if p.n < len(p.words) && p.err == nil {
		return p.words[p.n].text
	}
	return ""
}

// take reads one of some words.
func (p *parser) take(any ...string) string {
	for _, w := range any {
		if p.peek() == w {
			p.n++
			return w
		}
	}
	return ""
}

func (p *parser) expression() test {
	if p.depth++; p.depth > maxDepth {
		return p.fail("brackets are nested more than %d deep", maxDepth)
	}
	defer func() { p.depth-- }()
	left := p.factor()
	for p.err == nil {
		a := left
		switch p.take("and", "&&", "or", "||") {
		case "and", "&&":
			b := p.factor()
			left = func(f *Frame) bool { return a(f) && b(f) }
		case "or", "||":
			b := p.factor()
			left = func(f *Frame) bool { return a(f) || b(f) }
		default:
			return left
		}
	}
	return left
}

func (p *parser) factor() test {
	negate := false
	for p.take("not", "!") != "" {
		negate = !negate
	}
	var t test
	if p.take("(") != "" {
		if t = p.expression(); p.err == nil && p.take(")") == "" {
			return p.fail("a bracket is not closed")
		}
	} else {
		t = p.primitive()
	}
	if negate {
		return func(f *Frame) bool { return !t(f) }
	}
	return t
}

// plain are the words that stand for themselves.
var plain = map[string]test{
	"ip": etherType(packet.TypeIPv4), "ip6": etherType(packet.TypeIPv6), "arp": etherType(packet.TypeARP),
	"tcp": protocol(packet.TCP, packet.TCP), "udp": protocol(packet.UDP, packet.UDP),
	"icmp":      func(f *Frame) bool { return f.Type == packet.TypeIPv4 && f.IP && f.Protocol == packet.ICMP },
	"icmp6":     func(f *Frame) bool { return f.Type == packet.TypeIPv6 && f.IP && f.Protocol == packet.ICMPv6 },
	"broadcast": func(f *Frame) bool { return f.Destination == broadcast },
	"multicast": func(f *Frame) bool { return f.Destination.Multicast() },
	"refused":   func(f *Frame) bool { return f.Refused },
	"vsock":     func(f *Frame) bool { return f.Vsock },
}

// primitive reads what is asked of one thing.
func (p *parser) primitive() test {
	switch w := p.peek(); w {
	case "":
		return p.fail("something is missing here")
	case "tcp", "udp":
		return p.transport(w)
	case "ether":
		p.n++
		return p.ether()
	case "ip", "ip6", "arp", "icmp", "icmp6", "broadcast", "multicast", "refused", "vsock":
		p.n++
		if w == "ip" || w == "ip6" {
			if p.take("proto") != "" {
				n := uint8(p.number("a protocol", math.MaxUint8))
				return both(plain[w], protocol(n, n))
			}
		}
		if next := p.peek(); next == "host" || next == "src" || next == "dst" || next == "net" {
			return both(plain[w], p.end(0))
		}
		return plain[w]
	case "proto":
		p.n++
		n := uint8(p.number("a protocol", math.MaxUint8))
		return protocol(n, n)
	case "vlan":
		p.n++
		if c := p.peek(); c == "" || c[0] < '0' || c[0] > '9' {
			return func(f *Frame) bool { return f.VLAN != 0 }
		}
		n := uint16(p.number("a VLAN", 4094))
		return func(f *Frame) bool { return f.VLAN == n }
	case "less", "greater":
		p.n++
		n := p.number("a length in bytes", 1<<20)
		if w == "less" {
			return func(f *Frame) bool { return f.Len <= n }
		}
		return func(f *Frame) bool { return f.Len >= n }
	case "src", "dst", "host", "net", "port", "portrange", "vm":
		return p.end(0)
	}
	if p.last != nil {
		return p.last(p)
	}
	return p.fail("%q is not known; host, net, port, tcp, udp, ... are (warder lan capture --help has all)", p.peek())
}

func both(a, b test) test { return func(f *Frame) bool { return a(f) && b(f) } }

// transport reads what begins with tcp or udp.
func (p *parser) transport(w string) test {
	p.n++
	only := uint8(packet.TCP)
	if w == "udp" {
		only = packet.UDP
	}
	switch p.peek() {
	case "src", "dst", "port", "portrange":
		return p.end(only)
	case "[":
		if w == "tcp" {
			return p.flags()
		}
		return p.fail("bytes of %s cannot be asked for, only tcp[tcpflags]", w)
	}
	return plain[w]
}

// side reads src, dst, src or dst, src and dst.
func (p *parser) side() side {
	switch p.take("src", "dst") {
	case "src":
		if p.peek() == "or" && p.after("dst") {
			return anySide
		}
		if p.peek() == "and" && p.after("dst") {
			return bothSides
		}
		return srcSide
	case "dst":
		return dstSide
	}
	return anySide
}

// after reads two words if the second is as said.
func (p *parser) after(second string) bool {
	if p.n+1 >= len(p.words) || p.words[p.n+1].text != second {
		return false
	}
	p.n += 2
	return true
}

// end reads what is asked of one end of a frame.
func (p *parser) end(only uint8) test {
	s := p.side()
	what := p.take("host", "net", "port", "portrange", "vm")
	if what == "" {
		what = "host" // as tcpdump has it
	}
	if only != 0 && what != "port" && what != "portrange" {
		return p.fail("port or portrange has to follow here")
	}
	read := func(p *parser) test { return p.value(what, s, only) }
	p.last = read
	return read(p)
}

func (p *parser) value(what string, s side, only uint8) test {
	switch what {
	case "host":
		a, err := netip.ParseAddr(p.peek())
		if err != nil {
			return p.fail("host: give an address, as 10.0.0.1 or fd00::1; names are not looked up")
		}
		p.n++
		a = a.Unmap()
		return in(s, netip.PrefixFrom(a, a.BitLen()))
	case "net":
		network, err := netip.ParsePrefix(p.peek())
		if err != nil {
			return p.fail("net: give a network, as 10.0.0.0/24 or fd00::/64")
		}
		p.n++
		return in(s, network.Masked())
	case "port":
		n := p.portNumber(p.peek())
		p.n++
		return port(s, only, n, n)
	case "portrange":
		a, b, ok := strings.Cut(p.peek(), "-")
		if !ok {
			return p.fail("portrange: give two ports, as 8000-8080")
		}
		first, last := p.portNumber(a), p.portNumber(b)
		if first > last {
			return p.fail("portrange: give the lower port first")
		}
		p.n++
		return port(s, only, first, last)
	}
	name := p.peek()
	if name == "" || strings.ContainsAny(name, "()[]!&|=<>") {
		return p.fail("vm: give the name of a VM")
	}
	p.n++
	return vm(s, name)
}

// names of ports, those that people use.
var names = map[string]uint16{
	"ftp": 21, "ssh": 22, "telnet": 23, "smtp": 25, "domain": 53, "bootps": 67, "bootpc": 68, "http": 80, "ntp": 123, "imap": 143, "snmp": 161,
	"ldap": 389, "https": 443, "microsoft-ds": 445, "syslog": 514, "imaps": 993, "mysql": 3306, "postgresql": 5432, "redis": 6379,
}

func (p *parser) portNumber(s string) uint16 {
	if n, ok := names[s]; ok {
		return n
	}
	n, err := strconv.ParseUint(s, 10, 16)
	if err != nil {
		p.fail("port: give a number of 0 to 65535")
	}
	return uint16(n)
}

// number reads a number.
func (p *parser) number(what string, most int) int {
	n, err := strconv.ParseUint(p.peek(), 0, 31)
	if err != nil || int(n) > most {
		p.fail("%s is a number of 0 to %d", what, most)
		return 0
	}
	p.n++
	return int(n)
}

func (p *parser) ether() test {
	if t := p.take("broadcast", "multicast"); t != "" {
		return plain[t]
	}
	s := p.side()
	if p.take("host") == "" && s == anySide {
		return p.fail("host, src, dst, broadcast or multicast has to follow here")
	}
	parts := strings.Split(p.peek(), ":")
	var mac packet.MAC
	for i, part := range parts {
		n, err := strconv.ParseUint(part, 16, 8)
		if err != nil || len(parts) != len(mac) {
			return p.fail("give a hardware address, as 02:00:00:00:00:01")
		}
		mac[i] = byte(n)
	}
	p.n++
	return ether(s, mac)
}
