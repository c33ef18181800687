package app

import (
	"encoding/binary"
	"net/netip"
	"strconv"
	"strings"
)

// Bounds on what is read of a DNS message (RFC 1035).
const (
	dnsHeader  = 12
	maxName    = 255 // bytes, by the RFC
	maxJumps   = 16  // pointers in a name
	maxAnswers = 16  // that are kept
	maxRecords = 64  // that are gone through
	pointer    = 0xc0
)

// Message is a question, or the answer to one.
type Message struct {
	ID      uint16
	Answer  bool
	Name    string // of the question, without the last dot
	Type    string
	Code    string // of an answer
	Answers []string
	// Carried is how many bytes the answer's records hold.
	Carried int
}

var dnsTypes = map[uint16]string{
	1: "A", 2: "NS", 5: "CNAME", 6: "SOA", 10: "NULL", 12: "PTR", 15: "MX", 16: "TXT", 28: "AAAA", 33: "SRV", 35: "NAPTR", 41: "OPT",
	43: "DS", 46: "RRSIG", 47: "NSEC", 48: "DNSKEY", 64: "SVCB", 65: "HTTPS", 252: "AXFR", 255: "ANY", 257: "CAA",
}

var dnsCodes = [...]string{"NOERROR", "FORMERR", "SERVFAIL", "NXDOMAIN", "NOTIMP", "REFUSED"}

func dnsType(n uint16) string {
	if s, ok := dnsTypes[n]; ok {
		return s
	}
	return "TYPE" + strconv.Itoa(int(n)) // RFC 3597
}

// dnsQuestion reports whether a message may be a question: one, of one name, and
// nothing else but what EDNS adds.
func dnsQuestion(p []byte) bool {
	if len(p) < dnsHeader+5 || p[2]&0xf8 != 0 || binary.BigEndian.Uint16(p[4:]) != 1 ||
		binary.BigEndian.Uint32(p[6:]) != 0 || binary.BigEndian.Uint16(p[10:]) > 2 {
		return false
	}
	_, rest, ok := dnsName(p, dnsHeader)
	if !ok || rest+4 > len(p) {
		return false
	}
	class := binary.BigEndian.Uint16(p[rest+2:]) &^ 0x8000 // mDNS sets a bit
	return class >= 1 && class <= 4 || class == 255
}

// ReadDNS reads a message; ok is false for what is none, or none about a name.
func ReadDNS(p []byte) (m Message, ok bool) {
	if len(p) < dnsHeader || binary.BigEndian.Uint16(p[4:]) != 1 {
		return m, false
	}
	m.ID, m.Answer = binary.BigEndian.Uint16(p), p[2]&0x80 != 0
	at := 0
	if m.Name, at, ok = dnsName(p, dnsHeader); !ok || at+4 > len(p) {
		return m, false
	}
	m.Type = dnsType(binary.BigEndian.Uint16(p[at:]))
	at += 4
	if !m.Answer {
		return m, true
	}
	m.Code = "CODE" + strconv.Itoa(int(p[3]&15))
	if c := int(p[3] & 15); c < len(dnsCodes) {
		m.Code = dnsCodes[c]
	}
	for range min(int(binary.BigEndian.Uint16(p[6:])), maxRecords) {
		_, next, ok := dnsName(p, at)
		if !ok || next+10 > len(p) {
			return m, true // what there is
		}
		kind, n := binary.BigEndian.Uint16(p[next:]), int(binary.BigEndian.Uint16(p[next+8:]))
		data := next + 10
		if data+n > len(p) {
			return m, true
		}
		m.Carried += n
		if s := dnsData(p, kind, data, n); s != "" && len(m.Answers) < maxAnswers {
			m.Answers = append(m.Answers, s)
		}
		at = data + n
	}
	return m, true
}

// dnsData is a record's data as text, "" for kinds that have none to show.
func dnsData(p []byte, kind uint16, at, n int) string {
	switch {
	case kind == 1 && n == 4, kind == 28 && n == 16:
		a, _ := netip.AddrFromSlice(p[at : at+n])
		return a.String()
	case kind == 2 || kind == 5 || kind == 12:
		name, _, _ := dnsName(p, at)
		return name
	case kind == 15 && n > 2:
		name, _, _ := dnsName(p, at+2)
		return name
	case kind == 16 && n > 1:
		return Text(p[at+1 : at+min(n, 1+int(p[at]))])
	}
	return ""
}

// dnsName reads the name at at, and says where the next thing is. Pointers only
// lead back, so that there is an end.
func dnsName(p []byte, at int) (name string, next int, ok bool) {
	var buf [maxName]byte
	out := buf[:0]
	for jumps := 0; ; {
		if at >= len(p) {
			return "", 0, false
		}
		n := int(p[at])
		switch {
		case n == 0:
			if jumps == 0 {
				next = at + 1
			}
			return strings.ToLower(Text(out)), next, true
		case n&pointer == pointer:
			if at+2 > len(p) {
				return "", 0, false
			}
			to := n&^pointer<<8 | int(p[at+1])
			if jumps == 0 {
				next = at + 2
			}
			if jumps++; jumps > maxJumps || to >= at {
				return "", 0, false
			}
			at = to
		case n&pointer != 0, at+1+n > len(p), len(out)+n+1 > maxName:
			return "", 0, false
		default:
			if len(out) > 0 {
				out = append(out, '.')
			}
			out = append(out, p[at+1:at+1+n]...)
			at += 1 + n
		}
	}
}
