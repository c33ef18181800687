package app

import (
	"bytes"
	"encoding/binary"
	"slices"

	"warder/secmon/lan/packet"
)

// Protocol is an application protocol by the name that the Elastic Common Schema
// has for it; "" is none that is known.
type Protocol string

// The protocols of which more is read than their name.
const (
	DNS  Protocol = "dns"
	HTTP Protocol = "http"
	TLS  Protocol = "tls"
	SSH  Protocol = "ssh"
)

// Sides of a conversation, as in package flow.
const (
	client = 0
	server = 1
	either = 2
)

// sign is how one protocol begins.
type sign struct {
	protocol  Protocol
	transport uint8
	side      int
	prefix    string
	// more is what must hold besides, if anything.
	more func(p []byte) bool
	// least is how many bytes more needs.
	least int
}

// signs are tried in their order. Those with long prefixes come first.
var signs = []sign{
	{"bittorrent", packet.TCP, either, "\x13BitTorrent protocol", nil, 0},
	{"http2", packet.TCP, client, "PRI * HTTP/2.0\r\n", nil, 0},
	{"vnc", packet.TCP, either, "RFB 00", nil, 0},
	{"amqp", packet.TCP, client, "AMQP", nil, 0},
	{SSH, packet.TCP, either, "SSH-", nil, 0},
	{HTTP, packet.TCP, server, "HTTP/1.", nil, 0},
	{HTTP, packet.TCP, client, "", httpMethod, 4},
	{"irc", packet.TCP, client, "NICK ", nil, 0},
	{"irc", packet.TCP, client, "CAP LS", nil, 0},
	{"stratum", packet.TCP, client, "{", func(p []byte) bool { return bytes.Contains(p[:min(len(p), 256)], []byte("mining.")) }, 64},
	{"smb", packet.TCP, client, "\x00", func(p []byte) bool { return string(p[5:8]) == "SMB" && p[4] >= 0xfd }, 8},
	{"mqtt", packet.TCP, client, "\x10", func(p []byte) bool { return string(p[2:8]) == "\x00\x04MQTT" }, 8},
	{"rdp", packet.TCP, client, "\x03\x00", func(p []byte) bool { return p[5] == 0xe0 && p[4] <= p[3] }, 6},
	{"postgresql", packet.TCP, client, "\x00\x00", postgres, 8},
	{"mysql", packet.TCP, server, "", func(p []byte) bool { return p[2] == 0 && p[3] == 0 && p[4] == 10 && p[5] >= '3' && p[5] <= '9' }, 6},
	{"mongodb", packet.TCP, client, "", func(p []byte) bool {
		return binary.LittleEndian.Uint32(p[12:]) == 2013 || binary.LittleEndian.Uint32(p[12:]) == 2004
	}, 16},
	{"redis", packet.TCP, client, "*", func(p []byte) bool {
		return p[1] >= '1' && p[1] <= '9' && bytes.Contains(p[:min(len(p), 8)], []byte("\r\n$"))
	}, 6},
	{"socks", packet.TCP, client, "\x05", func(p []byte) bool { return p[1] >= 1 && p[1] <= 4 && len(p) == 2+int(p[1]) }, 3},
	{TLS, packet.TCP, either, "\x16\x03", func(p []byte) bool { return p[2] <= 4 && (p[5] == 1 || p[5] == 2) }, 6},
	{"smtp", packet.TCP, client, "EHLO ", nil, 0},
	{"smtp", packet.TCP, client, "HELO ", nil, 0},
	{"ftp", packet.TCP, client, "USER ", nil, 0},
	{DNS, packet.TCP, client, "", func(p []byte) bool { return dnsQuestion(p[2:]) && int(binary.BigEndian.Uint16(p)) == len(p)-2 }, 14},

	{"dhcp", packet.UDP, either, "", func(p []byte) bool { return binary.BigEndian.Uint32(p[236:]) == 0x63825363 }, 240},
	{"quic", packet.UDP, client, "", func(p []byte) bool {
		v := binary.BigEndian.Uint32(p[1:])
		return p[0]&0xc0 == 0xc0 && (v == 1 || v == 0x6b3343cf)
	}, 1200},
	{"wireguard", packet.UDP, client, "\x01\x00\x00\x00", func(p []byte) bool { return len(p) == 148 }, 148},
	{"stun", packet.UDP, either, "", func(p []byte) bool { return p[0] < 2 && binary.BigEndian.Uint32(p[4:]) == 0x2112a442 }, 20},
	{DNS, packet.UDP, client, "", dnsQuestion, 12},
}

func httpMethod(p []byte) bool {
	method, _, ok := bytes.Cut(p[:min(len(p), 10)], []byte(" "))
	return ok && slices.Contains(methods, string(method))
}

var methods = []string{"GET", "POST", "HEAD", "PUT", "DELETE", "OPTIONS", "PATCH", "CONNECT", "TRACE", "PROPFIND"}

func postgres(p []byte) bool {
	code := binary.BigEndian.Uint32(p[4:])
	return code == 196608 || code == 80877103 || code == 80877104 // 3.0, SSLRequest, GSSENCRequest
}

// Verdict is what a beginning says.
type Verdict uint8

const (
	No   Verdict = iota // it is none of those that are known
	More                // more bytes may tell
	Yes
)

// Decisive is how many bytes are enough for a verdict of Yes or No.
const Decisive = 256

// Recognise tells from the first bytes that one side says which protocol it speaks.
// Of UDP it is the whole first datagram. Side is 0 for who opened the flow.
func Recognise(transport uint8, side int, p []byte) (Protocol, Verdict) {
	verdict := No
	for i := range signs {
		s := &signs[i]
		if s.transport != transport || s.side != either && s.side != side {
			continue
		}
		n := min(len(s.prefix), len(p))
		if string(p[:n]) != s.prefix[:n] {
			continue
		}
		switch {
		case len(p) >= len(s.prefix) && len(p) >= s.least && (s.more == nil || s.more(p)):
			return s.protocol, Yes
		case transport == packet.TCP && len(p) < max(len(s.prefix), s.least):
			verdict = More
		}
	}
	if len(p) >= Decisive {
		verdict = No
	}
	return "", verdict
}

// ports are where protocols belong. Those that are not strict are found at other
// ports as well, unless those belong to something else.
var ports = map[Protocol]struct {
	strict bool
	ports  []uint16
}{
	DNS: {true, []uint16{53, 5353, 5355}}, SSH: {true, []uint16{22, 2222}}, "smb": {true, []uint16{445, 139}}, "rdp": {true, []uint16{3389}},
	"vnc": {true, []uint16{5900, 5901, 5902, 5903}}, "irc": {true, []uint16{6667, 6666, 6668, 6669, 194}}, "stratum": {true, nil}, "socks": {true, []uint16{1080}},
	"bittorrent": {true, []uint16{6881, 6882, 6883, 6884, 6885, 6886, 6887, 6888, 6889}}, "dhcp": {true, []uint16{67, 68}},
	"smtp": {true, []uint16{25, 587, 2525}}, "ftp": {true, []uint16{21}}, "mysql": {true, []uint16{3306}}, "postgresql": {true, []uint16{5432}},
	"mongodb": {true, []uint16{27017, 27018, 27019}}, "redis": {true, []uint16{6379}}, "mqtt": {false, []uint16{1883}}, "amqp": {false, []uint16{5672}},
	HTTP: {false, []uint16{80, 8080, 8000, 8008, 3128}}, "http2": {false, []uint16{80, 8080}}, "quic": {false, []uint16{443}},
	TLS:         {false, []uint16{443, 465, 636, 853, 989, 990, 993, 995, 5061, 6514, 8443, 8883, 5671, 6697}},
	"wireguard": {false, []uint16{51820}}, "stun": {false, []uint16{3478, 19302}},
}

// starts are the ports where TLS begins after some words of the port's own
// protocol, or in its place.
var starts = []uint16{21, 25, 110, 143, 389, 587, 3306, 5432, 5222, 1883, 5672, 27017, 6379, 3389, 5900, 80, 8080, 1080, 6667}

// belongs are the protocols that belong to a port.
var belongs = func() map[uint16][]Protocol {
	m := make(map[uint16][]Protocol)
	for protocol, where := range ports {
		for _, p := range where.ports {
			m[p] = append(m[p], protocol)
		}
	}
	return m
}()

// Misplaced reports whether a port is not where a protocol belongs: it is another
// protocol's, or the protocol is one that stays at its own.
func Misplaced(p Protocol, port uint16) bool {
	where, known := ports[p]
	if !known || slices.Contains(where.ports, port) {
		return false
	}
	if p == TLS && slices.Contains(starts, port) {
		return false
	}
	return where.strict || len(belongs[port]) > 0
}

// At names the protocol that belongs to a port, "" where none does.
func At(port uint16) Protocol {
	if b := belongs[port]; len(b) > 0 {
		return slices.Min(b)
	}
	return ""
}

// maxText is how long a string that is kept of a guest's message may be, in bytes.
const maxText = 1024

// Text is what a guest wrote, as far as it is short; bytes that are no text are
// replaced.
func Text(p []byte) string {
	p = p[:min(len(p), maxText)]
	clean := true
	for _, c := range p {
		clean = clean && c >= ' ' && c < 0x7f
	}
	if clean {
		return string(p)
	}
	out := make([]byte, len(p))
	for i, c := range p {
		if c < ' ' || c >= 0x7f {
			c = '?'
		}
		out[i] = c
	}
	return string(out)
}

// Banner reads the line that SSH begins with (RFC 4253, section 4.2), "" if there is
// none in p.
func Banner(p []byte) string {
	line, _, ok := bytes.Cut(p[:min(len(p), 256)], []byte("\n"))
	if !ok || !bytes.HasPrefix(line, []byte("SSH-")) {
		return ""
	}
	return Text(bytes.TrimSuffix(line, []byte("\r")))
}
