package app

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
)

// Hello is a ClientHello of TLS (RFC 8446, section 4.1.2).
type Hello struct {
	ServerName string
	ALPN       []string
	JA4        string
}

// Bounds on a ClientHello. Large ones, with post-quantum key shares, have 2 KiB.
const (
	maxHello = 16 << 10
	maxALPN  = 8 // that are kept
)

// Extensions of TLS.
const (
	extServerName = 0
	extSignatures = 13
	extALPN       = 16
	extVersions   = 43
)

// ReadHello reads the ClientHello that a connection begins with. Nothing read and
// more true means that p does not have all of it.
func ReadHello(p []byte) (h *Hello, more bool) {
	// It may be in several records.
	var message []byte
	for rest := p; ; {
		if len(message) >= 4 {
			n := int(message[1])<<16 | int(binary.BigEndian.Uint16(message[2:])) + 4
			switch {
			case message[0] != 1 || n > maxHello:
				return nil, false
			case len(message) >= n:
				h = parseHello(message[4:n])
				return h, false
			}
		}
		if len(rest) < 5 {
			return nil, len(p) < maxHello+1024
		}
		n := int(binary.BigEndian.Uint16(rest[3:]))
		if rest[0] != 22 || rest[1] != 3 || n == 0 {
			return nil, false
		}
		part := rest[5:min(len(rest), 5+n)]
		if message == nil {
			message = part[:len(part):len(part)]
		} else {
			message = append(message, part...)
		}
		rest = rest[5+len(part):]
	}
}

// reader takes fields off bytes; after one that was not there, it has none.
type reader struct {
	p   []byte
	bad bool
}

func (r *reader) take(n int) []byte {
	if n > len(r.p) {
		r.p, r.bad = nil, true
		return nil
	}
	p := r.p[:n]
	r.p = r.p[n:]
	return p
}

func (r *reader) uint8() int {
	if p := r.take(1); p != nil {
		return int(p[0])
	}
	return 0
}

func (r *reader) uint16() int {
	if p := r.take(2); p != nil {
		return int(binary.BigEndian.Uint16(p))
	}
	return 0
}

// words are the 16-bit words of p, without those that stand for nothing (GREASE, RFC
// 8701).
func words(p []byte) (w []uint16) {
	for ; len(p) >= 2; p = p[2:] {
		if v := binary.BigEndian.Uint16(p); v&0x0f0f != 0x0a0a || v>>8 != v&0xff {
			w = append(w, v)
		}
	}
	return w
}

func parseHello(p []byte) *Hello {
	r := &reader{p: p}
	version := uint16(r.uint16())
	r.take(32)        // random
	r.take(r.uint8()) // session
	ciphers := words(r.take(r.uint16()))
	r.take(r.uint8()) // compression
	extensions := reader{p: r.take(r.uint16())}
	if r.bad {
		return nil
	}
	h := &Hello{}
	var kinds, signatures []uint16
	named, first := false, ""
	for len(extensions.p) > 0 {
		kind := uint16(extensions.uint16())
		data := reader{p: extensions.take(extensions.uint16())}
		if extensions.bad {
			return nil
		}
		if kind&0x0f0f == 0x0a0a && kind>>8 == kind&0xff {
			continue
		}
		kinds = append(kinds, kind)
		switch kind {
		case extServerName:
			named = true
			list := reader{p: data.take(data.uint16())}
			if list.uint8() == 0 {
				h.ServerName = strings.ToLower(Text(list.take(list.uint16())))
			}
		case extALPN:
			list := reader{p: data.take(data.uint16())}
			for len(list.p) > 0 && len(h.ALPN) < maxALPN {
				name := list.take(list.uint8())
				if first == "" {
					first = ends(name)
				}
				if len(name) > 0 {
					h.ALPN = append(h.ALPN, Text(name))
				}
			}
		case extSignatures:
			signatures = words(data.take(data.uint16()))
		case extVersions:
			for _, v := range words(data.take(data.uint8())) {
				version = max(version, v)
			}
		}
	}
	h.JA4 = ja4(version, named, first, ciphers, kinds, signatures)
	return h
}

// ends are the first and the last character of a protocol's name, of one that has
// others than letters and digits there the first and last hexadecimal digit.
func ends(name []byte) string {
	if len(name) == 0 {
		return ""
	}
	a, z := name[0], name[len(name)-1]
	alphanumeric := func(c byte) bool { return c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' }
	if alphanumeric(a) && alphanumeric(z) {
		return string([]byte{a, z})
	}
	s := hex.EncodeToString(name)
	return s[:1] + s[len(s)-1:]
}

var ja4Versions = map[uint16]string{0x304: "13", 0x303: "12", 0x302: "11", 0x301: "10", 0x300: "s3", 0x002: "s2"}

// ja4 is the fingerprint of that name: what programs of one kind have in common,
// in whatever order they list it (FoxIO, "JA4: TLS Client Fingerprinting").
func ja4(version uint16, named bool, alpn string, ciphers, extensions, signatures []uint16) string {
	v := ja4Versions[version]
	if v == "" {
		v = "00"
	}
	to := "i"
	if named {
		to = "d"
	}
	if alpn == "" {
		alpn = "00"
	}
	count := func(w []uint16) int { return min(len(w), 99) }
	a := fmt.Sprintf("t%s%s%02d%02d%s", v, to, count(ciphers), count(extensions), alpn)
	slices.Sort(ciphers)
	slices.Sort(extensions)
	extensions = slices.DeleteFunc(extensions, func(k uint16) bool { return k == extServerName || k == extALPN })
	c := list(extensions)
	if len(signatures) > 0 {
		c += "_" + list(signatures)
	}
	return a + "_" + digest(list(ciphers)) + "_" + digest(c)
}

func list(w []uint16) string {
	var b strings.Builder
	for i, v := range w {
		if i > 0 {
			b.WriteByte(',')
		}
		fmt.Fprintf(&b, "%04x", v)
	}
	return b.String()
}

func digest(s string) string {
	if s == "" {
		return "000000000000"
	}
	sum := sha256.Sum256([]byte(s))
	return hex.EncodeToString(sum[:6])
}
